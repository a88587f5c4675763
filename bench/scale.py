"""Measure the ledger at full scale: every video of the corpus and 100 workers, until the queue is empty.

    python bench/scale.py [--rows 507387] [--workers 100] [--pace 5] [--paced-s 60]

The benchmark starts a real Postgres and calls the real ledger functions. The first phase has a fixed rate, ten times
the 0.5 chunks per second of 100 GPUs. In the second phase every worker runs in a closed loop until the queue is empty.
This is the load when a fleet starts, or when its database comes back. Meanwhile the benchmark records the sizes of
tables and indexes, dead rows, vacuums, and the latency of each view of the dashboard. At the end, the audit must find
no violation and every video must be done.

The script prints tables and writes bench/out/scale.json. The embedded Postgres does not flush to disk, so the time of a
commit does not include a flush. Clients and server share the cores of this machine, so latencies of the closed loop are
mostly waiting times for a core.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles

from ledger_watch import INDEXES, LedgerWatch, read_rows
from sqlalchemy import create_engine
from virtual_workers import Sample, run_workers

from validation.domain import Video
from validation.ledger.engine import CONNECT_ARGS, parse_database_url
from validation.ledger.migrate import migrate
from validation.ledger.queries import audit_ledger, read_view
from validation.ledger.seed import seed_videos
from validation.local.postgres import EmbeddedPostgres

CORPUS = 507_387
LANGUAGES = ("hi", "ta", "te", "bn", "mr", "kn", "ml", "gu", "pa", "or", "as")
OUT = Path(__file__).parent / "out"
FOREVER_S = 1e9


def main() -> int:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="vfleet-scale-") as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101 - the account of Postgres must be able to read the folder
        with EmbeddedPostgres(Path(folder), max_connections=options.workers + 30) as server:
            result = measure(server.create_database("scale"), options)
    OUT.mkdir(exist_ok=True)
    (OUT / options.out).write_text(json.dumps(result, indent=1))
    report(result)
    return 0 if result["audit"] == [] and result["left"] == 0 else 1


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=CORPUS)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--chunk", type=int, default=50, help="videos per chunk")
    parser.add_argument("--processes", type=int, default=2, help="processes that the workers are divided among")
    parser.add_argument("--pace", type=float, default=5.0, help="chunks per second of the paced phase")
    parser.add_argument("--paced-s", type=float, default=60.0, help="duration of the paced phase; 0 omits it")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between reads of the dashboard")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SQL", help="run after the migration, to try a setting"
    )
    parser.add_argument("--out", default="scale.json", help="file name in bench/out")
    return parser.parse_args()


def measure(url: str, options: argparse.Namespace) -> dict:
    engine = create_engine(parse_database_url(url), connect_args=dict(CONNECT_ARGS), pool_size=2)
    migrate(engine)
    for statement in options.set:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    began = time.time()
    seed_videos(engine, [Video(f"v{n:09d}", LANGUAGES[n * n % len(LANGUAGES)], 90) for n in range(options.rows)])
    print(f"{options.rows:,} videos seeded in {time.time() - began:.0f} s", flush=True)
    before = read_rows(engine, INDEXES)
    phases = {}
    if options.paced_s:
        period_s = options.workers / options.pace
        phases["paced"] = run_phase(engine, url, options, period_s=period_s, for_s=options.paced_s)
    phases["closed loop"] = run_phase(engine, url, options, period_s=0.0, for_s=FOREVER_S)
    (eta,) = read_view(engine, "eta")
    return {
        "rows": options.rows, "workers": options.workers, "set": options.set, "phases": phases,
        "left": eta["videos_left"],
        "audit": [f"{check.invariant}: {check.violations}" for check in audit_ledger(engine) if check.violations],
        "indexes": {"before": before, "after": read_rows(engine, INDEXES)},
    }  # fmt: skip


def run_phase(engine, url: str, options: argparse.Namespace, *, period_s: float, for_s: float) -> dict:
    names = [f"val-{n:03d}" for n in range(options.workers)]
    shares = [names[n :: options.processes] for n in range(options.processes)]
    began = time.time()
    with (
        LedgerWatch(engine, every_s=options.every) as watch,
        ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
    ):
        groups = [pool.submit(run_workers, url, share, options.chunk, period_s, for_s) for share in shares]
        samples: list[Sample] = sorted((s for group in groups for s in group.result().samples), key=lambda s: s[1])
        errors = [error for group in groups for error in group.result().errors]
    watch.sample()
    first, last = samples[0][1], samples[-1][1]
    return {
        "seconds": last - first, "chunks": sum(group.result().commits for group in groups), "errors": errors[:20],
        "latencies": {what: by_fifth(samples, what, first, last) for what in ("claim", "renew", "heartbeat", "commit")},
        "views": {what: spread([s for w, _, s in watch.latencies if w == what]) for what, _, _ in watch.latencies},
        "states": [(at - began, rows) for at, rows in watch.states],
    }  # fmt: skip


def by_fifth(samples: list[Sample], what: str, first: float, last: float) -> list[dict]:
    """Return the number and quantiles of the latencies of one ledger call, for each fifth of the phase."""
    width = (last - first) / 5 or 1.0
    fifths = [[s for w, at, s in samples if w == what and min(int((at - first) / width), 4) == n] for n in range(5)]
    return [spread(fifth) for fifth in fifths]


def spread(seconds: list[float]) -> dict:
    if len(seconds) < 2:
        return {"count": len(seconds), "p50_ms": None, "p99_ms": None}
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"count": len(seconds), "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000}


def report(result: dict) -> None:
    for name, phase in result["phases"].items():
        rate = phase["chunks"] / phase["seconds"]
        print(
            f"\n{name}: {phase['chunks']:,} chunks in {phase['seconds']:.0f} s, {rate:.1f} per second, "
            f"{len(phase['errors'])} errors"
        )
        print(f"{'ms, by fifth':14}" + "".join(f"{f'p50  p99 ({n})':>16}" for n in range(1, 6)))
        for what, fifths in phase["latencies"].items():
            print(f"{what:14}" + "".join(f"{format_ms(f['p50_ms']):>8}{format_ms(f['p99_ms']):>8}" for f in fifths))
        print(f"{'view':22}{'p50 ms':>8}{'p99 ms':>8}")
        for view, taken in phase["views"].items():
            print(f"{view:22}{format_ms(taken['p50_ms']):>8}{format_ms(taken['p99_ms']):>8}")
        report_tables(phase["states"])
    grown = {row["name"]: row["bytes"] for row in result["indexes"]["before"]}
    for row in result["indexes"]["after"]:
        print(f"index {row['name']:28} {grown[row['name']] / 1e6:8.1f} -> {row['bytes'] / 1e6:.1f} MB")
    print(f"left: {result['left']}; audit: {result['audit'] or 'no violation'}")


def report_tables(states: list) -> None:
    print(f"{'table':20}{'MB, first to last':>22}{'indexes MB':>20}{'dead rows, max':>17}{'vacuums':>9}{'hot':>7}")
    history: dict[str, list[dict]] = {}
    for _, rows in states:
        for row in rows:
            history.setdefault(row["name"], []).append(row)
    for name, rows in history.items():
        first, last = rows[0], rows[-1]
        hot = (last["hot_updates"] - first["hot_updates"]) / max(last["updates"] - first["updates"], 1)
        table = f"{first['table_bytes'] / 1e6:.1f} -> {last['table_bytes'] / 1e6:.1f}"
        index = f"{first['index_bytes'] / 1e6:.1f} -> {last['index_bytes'] / 1e6:.1f}"
        vacuums = last["vacuums"] - first["vacuums"]
        print(f"{name:20}{table:>22}{index:>20}{max(r['dead_rows'] for r in rows):>17,}{vacuums:>9}{hot:>7.0%}")


def format_ms(ms: float | None) -> str:
    return "–" if ms is None else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


if __name__ == "__main__":
    sys.exit(main())

"""Compare the CPU time and memory of the readers of results with plain DuckDB, for the same questions on random shards.

    python bench/selection.py --rows 1000000 5000000 --question select report calibrate compact --json out.json

`select` counts verdicts by language and writes the accepted segments. `report` counts what the report shows.
`calibrate` proposes limits by language from all segments. `compact` merges shards into larger shards. The answers of
both arms must be equal, or the script stops before it prints times.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from math import isclose
from pathlib import Path
from shutil import rmtree
from typing import Any
from uuid import UUID, uuid4

import duckdb
import plain_duckdb
from obstore.store import LocalStore
from result_shards import RULES, make_shards

from validation.analysis.report.findings import gather_findings
from validation.analysis.report.page import Origin, render_report
from validation.analysis.report.signals import find_signals
from validation.analysis.selection.broken_shards import exclude_broken
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_in_folder, read_fields
from validation.analysis.selection.verdicts import apply_rules
from validation.control.compact import SourceShard, merge_shards, plan_compactions
from validation.ledger.queries import CommittedShard
from validation.scoring.rules_io import load_rules
from validation.settings import load_settings
from validation.shards.manifest import ShardManifest, read_manifest
from validation.storage.store import get_bytes, put_if_absent

QUESTIONS = ("select", "report", "calibrate", "compact")
VFLEET = [sys.executable, "-m", "validation.cli"]


@dataclass(frozen=True, slots=True)
class Run:
    """The CPU time, wall time and peak memory of a process."""

    cpu_s: float
    wall_s: float
    peak_gb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--question", nargs="+", choices=QUESTIONS, default=QUESTIONS)
    parser.add_argument("--folder", type=Path, help="Keep the shards here.")
    parser.add_argument("--json", type=Path, help="Append one line per question here.")
    parser.add_argument("--arm", nargs=3, metavar=("NAME", "SHARDS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        name, shards, out = options.arm
        ARMS[name](Path(shards), Path(out))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as outputs:
        for rows in options.rows:
            shards = (options.folder or Path(outputs)) / str(rows)
            if not shards.exists():
                make_shards(shards, rows)
            for question in options.question:
                _print(rows, question, compare(question, shards, Path(outputs) / f"{rows}-{question}"), options.json)


def compare(question: str, shards: Path, out: Path) -> dict[str, Run]:
    """Run both arms of a question, compare their answers, and return their times and memory."""
    ours, plain = out.with_suffix(".parquet"), out.with_name(out.name + "-plain.parquet")
    commands = {
        "select": [*VFLEET, "select", str(ours), "--shards", str(shards), "--suite", "local", "--rules", RULES],
        "calibrate": [*VFLEET, "calibrate", "--shards", f"{shards}/**/*.parquet", "--suite", "local", "--rules", RULES,
                      "--json"],
    }  # fmt: skip
    of_ours = measure(commands.get(question, _arm(question, shards, ours)), ours.with_suffix(".out"))
    of_plain = measure(_arm(f"plain {question}", shards, ours if question == "report" else plain))
    CHECKS[question](ours, plain)
    for path in (ours, plain):
        rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return {"vfleet": of_ours, "plain DuckDB": of_plain}


def _arm(name: str, shards: Path, out: Path) -> list[str]:
    return [sys.executable, __file__, "--arm", name, str(shards), str(out)]


def _print(rows: int, question: str, runs: Mapping[str, Run], file: Path | None) -> None:
    ratio = runs["vfleet"].cpu_s / runs["plain DuckDB"].cpu_s
    for name, run in runs.items():
        used = f"{run.cpu_s:7.1f} CPU-s {run.wall_s:7.1f} s {run.peak_gb:6.2f} GB"
        print(f"{rows:>12,} rows  {question:10} {name:14} {used}")
    print(f"{rows:>12,} rows  {question:10} ratio of CPU {ratio:.2f}", flush=True)
    if file:
        described = {name: asdict(run) for name, run in runs.items()}
        with file.open("a") as lines:
            lines.write(json.dumps({"rows": rows, "question": question, "ratio": ratio, **described}) + "\n")


def measure(command: Sequence[str], out: Path = Path(os.devnull)) -> Run:
    """Run a process and measure it. The peak is that of resident memory, in GB. ``out`` takes its standard output."""
    started = time.perf_counter()
    environment = os.environ | {"DATABASE_URL": "", "PYTHONPATH": str(Path(__file__).parent.parent)}
    with out.open("wb") as printed, subprocess.Popen(command, stdout=printed, env=environment) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Run(used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1e6)


def report(shards: Path, out: Path) -> None:
    """Do what `vfleet report --silent` does, and write the counts as JSON, because the page has no machine format."""
    rules = load_rules(RULES)
    source, _ = exclude_broken(find_in_folder(shards, "local"))
    segments = apply_rules(open_segments(source), rules)
    signals = find_signals(segments, read_fields(source, load_settings()))
    findings = gather_findings(segments, rules, signals, worst_per_reason=3, borderline=12)
    (revision,) = source.revisions
    origin = Origin(source.suite, revision.models, 1, len(revision.shards), rules, datetime.now(UTC))
    out.with_suffix(".html").write_text(render_report(origin, findings, signals, {}), encoding="utf-8")
    answers = {
        "signals": [(signal.name, signal.low, signal.high) for signal in signals],
        "verdicts": [(row["language"], row["accept"], row["review"], row["reject"]) for row in findings.languages],
        "rules": [(rule.sentence, rule.segments) for rule in findings.rules],
        "bins": [(name, *row) for name, table in findings.histograms.items() for row in table.rows()],
        "votes": [(row["language"], row["agrees"], row["differs"]) for row in findings.lid_votes],
        "correlations": list(findings.correlations.values()),
    }
    out.write_text(json.dumps(answers))


def compact(shards: Path, out: Path) -> None:
    """Do what `vfleet shards compact` does, without the ledger."""
    store = LocalStore(shards)
    out.mkdir()
    target = LocalStore(out)
    committed = [_describe(path, shards) for path in sorted(shards.glob("**/*.manifest.json"))]
    for group in plan_compactions(store, committed):
        parts = [SourceShard(get_bytes(store, each.shard_key), read_manifest(store, each.shard_key)) for each in group]
        payload, manifest = merge_shards(parts, uuid4())
        put_if_absent(target, manifest.key, payload)


def _describe(path: Path, shards: Path) -> CommittedShard:
    manifest = ShardManifest.from_json(path.read_bytes(), str(path))
    now = datetime.now(UTC)
    return CommittedShard(
        str(path.relative_to(shards)).replace(".manifest.json", ".parquet"), manifest.sha256, manifest.size_bytes,
        manifest.rows, UUID(int=0), "local", "1", manifest.provenance.model_revisions, now, now, (), (),
    )  # fmt: skip


def _check_rows(columns: str, ours: Path, plain: Path) -> None:
    with duckdb.connect() as database:
        hashes = f"SELECT count(*), bit_xor(hash({columns})) FROM read_parquet(?)"
        found = [str(path / "**/*.parquet") if path.is_dir() else str(path) for path in (ours, plain)]
        one, other = (database.execute(hashes, [path]).fetchone() for path in found)
    _compare("rows", one, other)


def _check_report(ours: Path, _plain: Path) -> None:
    rules = load_rules(RULES)
    mine, other = json.loads(ours.read_text()), json.loads(ours.with_suffix(".plain.json").read_text())
    verdicts: dict[str, Counter[str]] = {}
    fired: Counter[str] = Counter()
    for lang, decided, word, segments, _ in other["fired"]:
        verdicts.setdefault(lang, Counter())[decided] += segments
        fired.update({rule.sentence: segments for place, rule in enumerate(rules.effective) if word >> place & 1})
    counts = sorted([lang, n["accept"], n["review"], n["reject"]] for lang, n in verdicts.items())
    _compare("verdicts", sorted(mine["verdicts"]), counts)
    by_sentence: Counter[str] = Counter()
    for sentence, segments in mine["rules"]:
        by_sentence[sentence] += segments
    _compare("rules", by_sentence, fired)
    for name in ("bins", "votes"):
        _compare(name, sorted(mine[name]), sorted(other[name]))
    for one, two in zip(mine["correlations"], other["correlations"], strict=True):
        if (one is None) != (two is None) or (one is not None and not isclose(one, two, abs_tol=1e-6)):
            raise SystemExit(f"the arms differ in correlations: {one} and {two}")


def _check_calibration(ours: Path, plain: Path) -> None:
    lines = [json.loads(line) for line in ours.with_suffix(".out").read_text().splitlines() if line.startswith("{")]
    mine = [(each["condition"]["column"], each["language"], each["segments"], each["limit"]) for each in lines]
    other = [(name, lang, count, round(limit, 3)) for name, lang, count, limit in json.loads(plain.read_text())]
    _compare("limits", sorted(mine), sorted(other))


def _compare(name: str, ours: Any, plain: Any) -> None:
    if ours != plain:
        raise SystemExit(f"the arms differ in {name}: {str(ours)[:600]} and {str(plain)[:600]}")


ARMS: Mapping[str, Callable[[Path, Path], None]] = {
    "report": report,
    "compact": compact,
    "plain select": plain_duckdb.select,
    "plain report": plain_duckdb.report,
    "plain calibrate": plain_duckdb.calibrate,
    "plain compact": plain_duckdb.compact,
}
CHECKS: Mapping[str, Callable[[Path, Path], None]] = {
    "select": partial(_check_rows, "video_id, segment_index, duration_s, verdict"),
    "report": _check_report,
    "calibrate": _check_calibration,
    "compact": partial(_check_rows, "video_id, segment_index, duration_s, text"),
}

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()

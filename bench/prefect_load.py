"""Measure the number of workers that a Prefect server supports, on SQLite and on Postgres.

    python bench/prefect_load.py [--fleets 25 50 100 200 400 800 1600] [--seconds 40] [--on sqlite postgres]

A GPU scores a chunk of 50 videos in 200 s. So a fleet of N workers starts N / 200 chunks per second and polls N / 10
times per second. A chunk is a flow run with 13 task runs. The benchmark puts this load on a server with the settings of
this project, one fleet size after another. The server supports a fleet if no request failed and all task runs were
recorded within ten seconds after the load. The benchmark stops at the first size that the server does not support.

During the load, a page of flow runs is requested twice per second, as an operator does. The same page is requested
before the first fleet too, because its latency depends on other load of this machine.

The script prints a table and writes bench/out/prefect_load.json. The clients share the cores with the server.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import quantiles

import httpx
import psutil
from virtual_chunks import TASKS, Offered, offer_chunks

from validation.local.postgres import EmbeddedPostgres
from validation.local.stack import EmbeddedPrefect

CHUNK_S = 200.0
POOL = "fleet"
PROCESSES = 2
IDLE_S = 15.0
BACKLOG_TIMEOUT_S = 120.0
"""Maximum seconds to wait until the server has recorded all task runs."""
OUT = Path(__file__).parent / "out"


def main() -> None:
    options = parse_options()
    results = []
    for kind in options.on:
        with tempfile.TemporaryDirectory(prefix="vfleet-prefect-") as folder:
            os.chmod(folder, 0o711)  # noqa: PTH101 - the account of Postgres must be able to read the folder
            with serve(Path(folder), kind) as (server, others):
                httpx.post(f"{server.api_url}/work_pools/", json={"name": POOL, "type": "process"}).raise_for_status()
                with querying(server) as answers:
                    time.sleep(IDLE_S)
                idle_s, _ = median_and_p95(answers)
                print(f"{kind:9} idle: a query takes {idle_s * 1000:.0f} ms", flush=True)
                for workers in options.fleets:
                    measured = try_fleet(server, others, workers, options)
                    results.append({"server": kind, "workers": workers, "idle_p50_s": idle_s} | measured)
                    report(results[-1])
                    if not results[-1]["supported"]:
                        break
    OUT.mkdir(exist_ok=True)
    (OUT / "prefect_load.json").write_text(json.dumps(results, indent=1))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleets", type=int, nargs="+", default=[25, 50, 100, 200, 400, 800, 1600])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--on", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    return parser.parse_args()


@contextmanager
def serve(folder: Path, kind: str) -> Iterator[tuple[EmbeddedPrefect, list[psutil.Process]]]:
    """Run a Prefect server with the settings of this project. Yield the server and the processes to measure."""
    if kind == "sqlite":
        with EmbeddedPrefect(folder / "prefect") as server:
            yield server, [psutil.Process(server.pid)]
        return
    with EmbeddedPostgres(folder / "postgres") as postgres:
        url = postgres.create_database("prefect")
        with EmbeddedPrefect(folder / "prefect", database_url=url) as server:
            yield server, [psutil.Process(server.pid), psutil.Process(postgres.pid)]


def try_fleet(
    server: EmbeddedPrefect, processes: list[psutil.Process], workers: int, options: argparse.Namespace
) -> dict:
    os.environ |= server.client_environment() | {"PREFECT_LOGGING_LEVEL": "CRITICAL"}
    before_tasks, cpu = count_done(server), cpu_s(processes)
    rate, share = workers / CHUNK_S / PROCESSES, workers / PROCESSES
    with querying(server) as answers, ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(offer_chunks, server.api_url, POOL, rate, share, options.seconds) for _ in range(PROCESSES)]
        offered: list[Offered] = [job.result() for job in jobs]
    used_s, chunks = cpu_s(processes) - cpu, sum(one.chunks for one in offered)
    expected = before_tasks + TASKS * chunks
    lag_s = await_recorded(server, expected)
    errors = [error for one in offered for error in one.errors]
    errors += [answer for answer in answers if isinstance(answer, str)]
    p50, p95 = median_and_p95(answers)
    return {
        "task_runs_per_s": workers / CHUNK_S * TASKS, "chunks": chunks, "cpu_s_per_chunk": used_s / max(chunks, 1),
        "polls": sum(one.polls for one in offered), "api_p50_s": p50, "api_p95_s": p95,
        "recorded_after_s": lag_s, "errors": errors[:10], "error_count": len(errors),
        "supported": not errors and lag_s is not None and lag_s < 10,
    }  # fmt: skip


@contextmanager
def querying(server: EmbeddedPrefect) -> Iterator[list]:
    """Request a page of flow runs twice per second. Yield a growing list of latencies in seconds, or errors as text."""
    answers: list[float | str] = []
    done = threading.Event()

    def query() -> None:
        while not done.wait(0.5):
            started_s = time.perf_counter()
            try:
                httpx.post(f"{server.api_url}/flow_runs/filter", json={"limit": 20}, timeout=30).raise_for_status()
                answers.append(time.perf_counter() - started_s)
            except httpx.HTTPError as error:
                answers.append(f"query: {error!r}")

    thread = threading.Thread(target=query)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


def median_and_p95(answers: list) -> tuple[float, float]:
    """Return the median and the 95th percentile of the latencies, without the errors."""
    cuts = quantiles([answer for answer in answers if not isinstance(answer, str)], n=20)
    return cuts[9], cuts[18]


def await_recorded(server: EmbeddedPrefect, expected: int) -> float | None:
    """Wait until ``expected`` task runs are recorded as completed. Return the seconds; None after the timeout."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < BACKLOG_TIMEOUT_S:
        if count_done(server) >= expected:
            return time.monotonic() - started_s
        time.sleep(0.5)
    return None


def count_done(server: EmbeddedPrefect) -> int:
    body = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    return int(httpx.post(f"{server.api_url}/task_runs/count", json=body, timeout=30).raise_for_status().json())


def cpu_s(processes: list[psutil.Process]) -> float:
    """Return the CPU seconds that the processes and their children have used."""
    family = [child for process in processes for child in [process, *process.children(recursive=True)]]
    return sum(sum(member.cpu_times()[:2]) for member in family if member.is_running())


def report(row: dict) -> None:
    lag = "never" if row["recorded_after_s"] is None else f"{row['recorded_after_s']:.1f} s"
    print(
        f"{row['server']:9} {row['workers']:4} workers, {row['task_runs_per_s']:5.1f} task runs/s: "
        f"{row['cpu_s_per_chunk']:.2f} CPU-s per chunk, "
        f"a query {row['api_p50_s'] * 1000:.0f} ms (p95 {row['api_p95_s'] * 1000:.0f}), "
        f"recorded after {lag}, {row['error_count']} errors{'' if row['supported'] else ' -> not supported'}",
        flush=True,
    )
    for error in row["errors"][:3]:
        print(f"          {error[:200]}")


if __name__ == "__main__":
    main()

"""Check the fleet after the last fault. Each violation is one sentence."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.request import ProxyHandler, build_opener

import psutil
from obstore.store import ObjectStore

from simulation.chaos.corpus import ProcessKilled
from simulation.chaos.environment import ChaosEnvironment
from simulation.chaos.proxy import RUN_MARKER
from validation.control.audit import audit
from validation.corpus.fetch import fetch_layout
from validation.errors import Permanent
from validation.ledger.chunks import MAX_CRASHES
from validation.ledger.queries import read_open_chunks, read_view
from validation.local.prefect_client import PROJECT
from validation.local.process import is_alive
from validation.local.stack import RESULTS_BUCKET, SOURCE_BUCKET
from validation.storage.errors import describe_store_address

ALIVE = ("RUNNING", "PENDING", "CANCELLING")
SWEEP = """
from datetime import timedelta
import tasks.control
tasks.control.MAX_CONTROL_RUN_AGE = timedelta(0)
from flows.sweep import sweep_stale_claims
sweep_stale_claims()
"""
"""A script that runs the sweep flow. The sweep recognises dead control runs only by their age, so the script sets the
age limit to zero instead of waiting. Flow runs of boxes need no such change, because their workers are offline.
"""


def sweep_once(environment: ChaosEnvironment) -> str | None:
    """Run the sweep flow once in a subprocess, as an operator may. Return its error; None if the sweep succeeded."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP],
        cwd=PROJECT,
        env={**os.environ, **environment.store_proxy.client_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"the last sweep failed: {done.stderr.strip()[-500:]}" if done.returncode else None


def find_false_silence(environment: ChaosEnvironment) -> Iterator[str]:
    """Find workers that run but are not online in the ledger. Call this before the fleet is stopped."""
    rows = {row["worker_id"]: row for row in read_view(environment.engine, "worker_liveness")}
    for box in environment.boxes:
        if box.is_up and (status := rows[box.name]["status"] if box.name in rows else "unknown") != "online":
            yield f"worker {box.name} is up, but the ledger says {status}"


def find_violations(environment: ChaosEnvironment) -> Iterator[str]:
    """Run every check and yield the violations. The fleet must be stopped, and the stack must still run."""
    yield from audit(environment.engine, environment.results, orphan_margin=timedelta(0))
    yield from (
        f"chunk {chunk.chunk_id} of {chunk.worker_id} is open" for chunk in read_open_chunks(environment.engine)
    )
    yield from _check_videos(environment)
    yield from _check_workers(environment)
    yield from _check_flow_runs(environment)
    yield from (f"left running: {process.pid} {_command(process)}" for process in find_processes(environment.mark))
    # Prefect leaves folders of killed flow runs behind; only this project's files are checked.
    yield from (f"left behind: {path}" for path in sorted(environment.scratch.rglob("vfleet*")))
    yield from _find_uploads(environment)


def _check_videos(environment: ChaosEnvironment) -> Iterator[str]:
    rows = {row["video_id"]: row for row in read_view(environment.engine, "video_outcomes")}
    for video_id, made in environment.corpus.videos.items():
        if (row := rows.get(video_id)) is None:
            yield f"{video_id} is not in the queue"
            continue
        status, error = row["validation_status"], row["validation_error"]
        if made.error is None and (status != "validated" or row["validation_segments"] != made.segments):
            yield f"{video_id} is {status} with {row['validation_segments']} segments of {made.segments}: {error}"
        if made.error and (status != "validation_failed" or find_failure(environment.source, row) is not made.error):
            yield f"{video_id} is {status} ({error}), not failed because of {made.error.__name__}"


def find_failure(source: ObjectStore, row: Mapping[str, Any]) -> type[Permanent] | None:
    """Return the kind of error with which a video failed; None if the ledger has another error than a reader finds.

    The ledger stores the sentence of an error and not its kind. So the object is read again, as a worker reads it. The
    address of the store at the end of a sentence is not compared, because workers reach the store through a proxy.

    Args:
        source: the store of the tars.
        row: the row of the video in the view ``video_outcomes``.
    """
    try:
        fetch_layout(source, f"{row['video_id']}.tar")
    except Permanent as error:
        sentence = str(error).removesuffix(describe_store_address(source))
        return type(error) if sentence in (row["validation_error"] or "") else None
    return ProcessKilled if row["validation_crashes"] >= MAX_CRASHES else None


def _check_workers(environment: ChaosEnvironment) -> Iterator[str]:
    rows = {row["worker_id"]: row for row in read_view(environment.engine, "worker_liveness")}
    for box in environment.boxes:
        if (status := rows[box.name]["status"] if box.name in rows else "unknown") != "offline":
            yield f"worker {box.name} has ended, but the ledger says {status}"


def _check_flow_runs(environment: ChaosEnvironment) -> Iterator[str]:
    alive = {"state": {"type": {"any_": list(ALIVE)}}}
    for run in environment.prefect.flow_runs(flow_runs=alive):
        yield f"Prefect shows run {run['name']!r} as {run['state_name']} since {run['state']['timestamp']}"


def find_processes(mark: str) -> list[psutil.Process]:
    """Return the processes of a run that are still alive. ``mark`` is the run's value of ``RUN_MARKER``."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(RUN_MARKER) == mark and is_alive(process)
    ]


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())[:120] if process.is_running() else "(ended meanwhile)"


def _find_uploads(environment: ChaosEnvironment) -> Iterator[str]:
    opener = build_opener(ProxyHandler({}))  # the store is on loopback, so proxies of the environment are not used
    for bucket in (SOURCE_BUCKET, RESULTS_BUCKET):
        with opener.open(f"{environment.stack.object_store.endpoint_url}/{bucket}?uploads", timeout=30) as reply:
            if b"<Upload>" in reply.read():
                yield f"a multipart upload was left in bucket {bucket}"

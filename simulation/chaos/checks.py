"""After the last fault: everything that is not as it must be, one sentence each."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from urllib.request import ProxyHandler, build_opener

import psutil

from simulation.chaos.environment import ChaosEnvironment
from simulation.chaos.proxy import MARK_VARIABLE
from validation.control.audit import audit
from validation.ledger.queries import read_open_chunks, read_view
from validation.local.prefect_client import PROJECT
from validation.local.process import is_alive
from validation.local.stack import RESULTS_BUCKET, SOURCE_BUCKET

ALIVE = ("RUNNING", "PENDING", "CANCELLING")
SWEEP = """
from datetime import timedelta
import tasks.control
tasks.control.CONTROL_ENDED_AFTER = timedelta(0)
from flows.sweep import sweep_stale_claims
sweep_stale_claims()
"""
"""Time is edited, not awaited, for the control plane's own runs: nothing but their age tells that they are dead. The
boxes' are judged as in production: their workers have said goodbye.
"""


def sweep_once(stage: ChaosEnvironment) -> str | None:
    """Run the product's own sweep by hand, as an operator may. Returns what went wrong."""
    done = subprocess.run(
        [sys.executable, "-c", SWEEP],
        cwd=PROJECT,
        env={**os.environ, **stage.line.client_environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    return f"the last sweep failed: {done.stderr.strip()[-500:]}" if done.returncode else None


def find_false_silence(stage: ChaosEnvironment) -> Iterator[str]:
    """Before the fleet is stopped: a worker that is up is online in the ledger, whatever was done to it."""
    rows = {row["worker_id"]: row for row in read_view(stage.engine, "worker_liveness")}
    for box in stage.boxes:
        if box.is_up and (status := rows[box.name]["status"] if box.name in rows else "unknown") != "online":
            yield f"worker {box.name} is up, and the table says {status}"


def find_violations(stage: ChaosEnvironment) -> Iterator[str]:
    """Look at everything. The fleet has been stopped; the stack still runs."""
    yield from audit(stage.engine, stage.results, orphan_margin=timedelta(0))
    yield from (f"chunk {chunk.chunk_id} of {chunk.worker_id} is open" for chunk in read_open_chunks(stage.engine))
    yield from _judge_videos(stage)
    yield from _judge_workers(stage)
    yield from _judge_flow_runs(stage)
    yield from (f"left running: {process.pid} {_command(process)}" for process in find_processes(stage.mark))
    # Prefect leaves the folders of killed flow runs behind; what is ours must go.
    yield from (f"left behind: {path}" for path in sorted(stage.scratch.rglob("vfleet*")))
    yield from _find_uploads(stage)


def _judge_videos(stage: ChaosEnvironment) -> Iterator[str]:
    rows = {row["video_id"]: row for row in read_view(stage.engine, "video_outcomes")}
    for video_id, made in stage.corpus.videos.items():
        if (row := rows.get(video_id)) is None:
            yield f"{video_id} is not in the queue"
            continue
        status, error = row["validation_status"], row["validation_error"]
        if made.error is None and (status != "validated" or row["validation_segments"] != made.segments):
            yield f"{video_id} is {status} with {row['validation_segments']} segments of {made.segments}: {error}"
        if made.error is not None and (status != "validation_failed" or made.error not in (error or "")):
            yield f"{video_id} is {status} ({error}), not failed because {made.error!r}"


def _judge_workers(stage: ChaosEnvironment) -> Iterator[str]:
    rows = {row["worker_id"]: row for row in read_view(stage.engine, "worker_liveness")}
    for box in stage.boxes:
        if (status := rows[box.name]["status"] if box.name in rows else "unknown") != "offline":
            yield f"worker {box.name} has ended, and the table says {status}"


def _judge_flow_runs(stage: ChaosEnvironment) -> Iterator[str]:
    alive = {"state": {"type": {"any_": list(ALIVE)}}}
    for run in stage.prefect.flow_runs(flow_runs=alive):
        yield f"Prefect believes {run['name']!r} to be {run['state_name']} since {run['state']['timestamp']}"


def find_processes(mark: str) -> list[psutil.Process]:
    """Processes of the fleet that still run."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get(MARK_VARIABLE) == mark and is_alive(process)
    ]


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())[:120] if process.is_running() else "(ended meanwhile)"


def _find_uploads(stage: ChaosEnvironment) -> Iterator[str]:
    ask = build_opener(ProxyHandler({}))  # the store is on loopback, whatever proxy the environment names
    for bucket in (SOURCE_BUCKET, RESULTS_BUCKET):
        with ask.open(f"{stage.stack.object_store.endpoint_url}/{bucket}?uploads", timeout=30) as reply:
            if b"<Upload>" in reply.read():
                yield f"a multipart upload was left in bucket {bucket}"

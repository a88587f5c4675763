"""Measure the time until videos can be claimed again after a crash, and the time of a drain.

    python bench/recovery.py [--videos 12]

The benchmark uses a real worker, Prefect server, Postgres, object store and control worker, with the settings of
production, videos of four real segments, and the suite `local`. For each fault it waits until a chunk is being scored,
injects the fault, and measures the time until the chunk is closed:

- `flow process`: SIGKILL to the flow process only. Its worker reports the crash to Prefect, where the sweep finds it.
- `box`: SIGKILL to the worker, its flow processes and its inference server, as if the machine vanished. The lease and
  the heartbeat have to expire.
- `box that comes back`: as `box`, but the worker is started again at once.
- `drain`: SIGTERM to the worker. The time ends when the worker has exited and its chunk is closed.

The script prints a table and writes bench/out/recovery.json.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from orchestration import OUT, sample_videos

from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.queries import read_open_chunks
from validation.ledger.seed import seed_videos
from validation.local.demo import replaced_environment
from validation.local.prefect_client import PrefectClient
from validation.local.process import poll_until
from validation.local.stack import LocalStack, WorkerProcess
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent

SCORING_AFTER_S = 5.0
"""Seconds from the claim of a chunk until its first segments are being scored."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=12, help="videos per chunk")
    options = parser.parse_args()
    arms = {
        "flow process": (RunningBox.kill_flow, RunningBox.is_free),
        "box": (RunningBox.kill_box, RunningBox.is_free),
        "box that comes back": (RunningBox.kill_and_restart_box, RunningBox.is_free),
        "drain": (RunningBox.drain_box, RunningBox.has_ended),
    }
    results = {}
    print(f"chunks of {options.videos} videos, suite `local`")
    print(f"{'fault':>20} {'free again after s':>19}")
    for name, (inject, is_over) in arms.items():
        with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
            Path(folder).chmod(0o711)  # the account of Postgres must be able to read the folder
            with LocalStack(Path(folder), report=lambda _: None) as stack, replaced_environment(stack.environment()):
                results[name] = measure(stack, Path(folder), options.videos, inject, is_over)
        print(f"{name:>20} {results[name]:19.1f}", flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "recovery.json").write_text(json.dumps(vars(options) | {"seconds": results}))


class RunningBox:
    """One box that processes one chunk, and a control worker."""

    def __init__(self, stack: LocalStack, folder: Path, videos: int) -> None:
        settings, self.engine = Settings(), open_engine(stack.postgres.libpq_url())
        migrate(self.engine)
        for video, tar in (samples := sample_videos(videos)):
            put_if_absent(open_store(settings.source_url, settings), f"{video.video_id}.tar", tar)
        seed_videos(self.engine, [video for video, _ in samples])
        prefect = PrefectClient(stack.environment())
        prefect.deploy_all()
        prefect.run("deployment", "run", "validate-chunk/validate-chunk", "--param", f"size={videos}")
        self.control = WorkerProcess(folder, stack.environment(), name="control-1", pool="control", kind="process")
        self.box = WorkerProcess(folder, stack.environment(), name="val-1")

    def await_work(self) -> None:
        """Wait until a chunk is claimed and is being scored."""
        assert poll_until(lambda: read_open_chunks(self.engine), within_s=300), self.box.log_tail()
        (self.held,) = [chunk.chunk_id for chunk in read_open_chunks(self.engine)]
        time.sleep(SCORING_AFTER_S)

    def is_free(self) -> bool:
        return self.held not in [chunk.chunk_id for chunk in read_open_chunks(self.engine)]

    def has_ended(self) -> bool:
        return self.box.has_ended() and self.is_free()

    def kill_flow(self) -> None:
        for process in psutil.Process(self.box.pid).children():
            if "validation.inference" not in process.cmdline():
                process.kill()

    def kill_box(self) -> None:
        worker = psutil.Process(self.box.pid)
        killed = [worker, *worker.children(recursive=True)]
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=10)

    def kill_and_restart_box(self) -> None:
        self.kill_box()
        self.box.launch()

    def drain_box(self) -> None:
        os.kill(self.box.pid, signal.SIGTERM)


def measure(
    stack: LocalStack,
    folder: Path,
    videos: int,
    inject: Callable[[RunningBox], None],
    is_over: Callable[[RunningBox], bool],
) -> float:
    running = RunningBox(stack, folder, videos)
    running.control.launch()
    running.box.launch()
    try:
        running.await_work()
        started_s = time.monotonic()
        inject(running)
        assert poll_until(lambda: is_over(running), within_s=600), running.box.log_tail()
        return time.monotonic() - started_s
    finally:
        running.box.stop()
        running.control.stop()


if __name__ == "__main__":
    main()

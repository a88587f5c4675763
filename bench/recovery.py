"""How soon the videos of what died can be claimed again, and how soon a worker drains.

    python bench/recovery.py [--videos 12]

A real worker, Prefect server, Postgres, object store and control worker, at the settings of production; videos of four
real segments, suite `local`. Each arm waits until a chunk is being scored, strikes, and takes the time until none of
its videos is held:

- `flow process`: SIGKILL of the flow's process alone; its worker tells Prefect, and the sweeper reads it there.
- `box`: SIGKILL of the worker, its flows and its model host at once, as when a machine vanishes; the clock decides.
- `box that comes back`: the same, and the worker is started again at once.
- `drain`: SIGTERM to the worker; until it has ended, with its work committed or given back.

Prints a table and writes bench/out/recovery.json.
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
from validation.local.demo import applied
from validation.local.prefect_client import PrefectClient
from validation.local.process import poll_until
from validation.local.stack import LocalStack
from validation.local.worker import WorkerProcess
from validation.settings import Settings
from validation.storage.store import open_store, put_once

SETTLED_S = 5.0
"""From its claim on, until a chunk is fetched and its first segments are before the models."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=12, help="videos a chunk")
    asked = parser.parse_args()
    arms = {
        "flow process": (Scene.kill_flow, Scene.is_free),
        "box": (Scene.kill_box, Scene.is_free),
        "box that comes back": (Scene.kill_and_restart_box, Scene.is_free),
        "drain": (Scene.drain_box, Scene.has_ended),
    }
    found = {}
    print(f"chunks of {asked.videos} videos, suite `local`")
    print(f"{'struck':>20} {'free again after s':>19}")
    for name, (strike, is_over) in arms.items():
        with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
            Path(folder).chmod(0o711)  # the cluster's account must reach its files
            with LocalStack(Path(folder), report=lambda _: None) as stack, applied(stack.environment()):
                found[name] = measure(stack, Path(folder), asked.videos, strike, is_over)
        print(f"{name:>20} {found[name]:19.1f}", flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "recovery.json").write_text(json.dumps(vars(asked) | {"seconds": found}))


class Scene:
    """One box at work on one chunk."""

    def __init__(self, stack: LocalStack, folder: Path, videos: int) -> None:
        settings, self.engine = Settings(), open_engine(stack.postgres.libpq_url())
        migrate(self.engine)
        for video, tar in (samples := sample_videos(videos)):
            put_once(open_store(settings.source_url, settings), f"{video.video_id}.tar", tar)
        seed_videos(self.engine, [video for video, _ in samples])
        prefect = PrefectClient(stack.environment())
        prefect.deploy_all()
        prefect.run("deployment", "run", "validate-chunk/validate-chunk", "--param", f"size={videos}")
        self.control = WorkerProcess(folder, stack.environment(), name="control-1", pool="control", kind="process")
        self.box = WorkerProcess(folder, stack.environment(), name="val-1")

    def await_work(self) -> None:
        """Return once a chunk is held and its models have been asked."""
        assert poll_until(lambda: read_open_chunks(self.engine), within_s=300), self.box.log_tail()
        (self.held,) = [chunk.chunk_id for chunk in read_open_chunks(self.engine)]
        time.sleep(SETTLED_S)

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
        struck = [worker, *worker.children(recursive=True)]
        for process in struck:
            process.kill()
        psutil.wait_procs(struck, timeout=10)

    def kill_and_restart_box(self) -> None:
        self.kill_box()
        self.box.launch()

    def drain_box(self) -> None:
        os.kill(self.box.pid, signal.SIGTERM)


def measure(
    stack: LocalStack, folder: Path, videos: int, strike: Callable[[Scene], None], is_over: Callable[[Scene], bool]
) -> float:
    scene = Scene(stack, folder, videos)
    scene.control.launch()
    scene.box.launch()
    try:
        scene.await_work()
        began_s = time.monotonic()
        strike(scene)
        assert poll_until(lambda: is_over(scene), within_s=600), scene.box.log_tail()
        return time.monotonic() - began_s
    finally:
        scene.box.stop()
        scene.control.stop()


if __name__ == "__main__":
    main()

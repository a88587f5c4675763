"""Prefect workers of the embedded stack, started with the same command as in production."""

import os
import sys
import tempfile
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Self

from validation.local.process import Child, Program

RUNNER_FOLDER = "runner_storage"
"""Where Prefect keeps the working copies of its runs, in the folder for temporary files of the machine."""


def own_temporary_folder() -> dict[str, str]:
    """TMPDIR of a worker where Prefect's folder in the machine's one belongs to another account; else nothing."""
    shared = Path(tempfile.gettempdir())
    try:
        is_foreign = (shared / RUNNER_FOLDER).stat().st_uid != os.getuid()
    except FileNotFoundError:
        return {}
    if not is_foreign:
        return {}
    own = shared / f"vfleet-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    return {"TMPDIR": str(own)}


class WorkerProcess:
    """`prefect worker start` as a child process that is drained at the end; the pool decides whether it is a box."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        *,
        name: str,
        pool: str = "vast-gpu",
        kind: str = "vast-gpu",
        limit: int = 2,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, **own_temporary_folder(), **environment, "WORKER_ID": name}
        self._command = ["worker", "start", "--name", name, "--pool", pool, "--type", kind, "--limit", str(limit)]
        self._child = Child(f"worker-{name}", folder)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def launch(self) -> Self:
        self._child.launch(
            Program([sys.executable, "-m", "prefect", *self._command], self._environment), orphan_signal=SIGKILL
        )
        return self

    def has_ended(self) -> bool:
        return self._child.exit_status() is not None

    def log_tail(self) -> str:
        return self._child.log_tail()

    def stop(self) -> None:
        """Drain the worker: its chunks are finished or released."""
        self._child.end(SIGTERM, grace_s=150.0)

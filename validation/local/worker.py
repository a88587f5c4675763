"""A `vast-gpu` worker of the embedded stack, started as an operator starts it."""

import os
import sys
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Self

from validation.local.process import Child, Program, poll_until


class WorkerProcess:
    """`prefect worker start --pool vast-gpu` as a child that is drained at the end."""

    def __init__(self, folder: Path, environment: dict[str, str], *, worker_id: str = "val-1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = {**os.environ, **environment, "WORKER_ID": worker_id}
        self._child = Child(f"worker-{worker_id}", folder)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def launch(self) -> Self:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "vast-gpu", "--type", "vast-gpu"]
        self._child.launch(Program(command, self._environment), orphan_signal=SIGKILL)
        return self

    def has_ended(self) -> bool:
        return self._child.exit_status() is not None

    def log_tail(self) -> str:
        return self._child.log_tail()

    def stop(self) -> None:
        """Drain it: what it holds is finished or given back."""
        self._child.end(SIGTERM, grace_s=150.0)

    def kill(self) -> None:
        """End it as a lost machine would."""
        self._child.end(SIGKILL, grace_s=0)

    def wait_for_end(self, within_s: float) -> bool:
        return poll_until(self.has_ended, within_s=within_s)

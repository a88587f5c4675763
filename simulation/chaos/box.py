"""A machine with a Prefect worker on it, and an init that starts the worker again whenever it ends."""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

import psutil

from validation.domain import Seconds
from validation.local.process import Child, Program, is_alive

FLOW_MARK = "prefect.engine"
"""In the command line of every process that runs a flow for a `vast-gpu` worker."""
HOST_MARK = "validation.inference"
"""In that of the one that holds its models."""
INIT_PAUSE_S: Seconds = 1.0
"""From the end of a worker to its next life, as in the image's entry point."""
STOP_GRACE_S: Seconds = 60.0
"""Long enough for a drain on a busy machine."""


class Box:
    """One machine. What runs on it belongs to the worker: its flow processes end with it."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], *, pool: str, worker_type: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.lives = 0
        """How often its worker was started."""
        self.drains_s: list[Seconds] = []
        """How long it took to end, each time it was asked to."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", worker_type]
        self._program = Program([*command, "--name", name], {**os.environ, **environment, "WORKER_ID": name})
        self._child = Child(name, folder)
        self._down_until: Seconds | None = 0.0
        self._asked_at: Seconds | None = None

    def tend(self) -> None:
        """Do what its init does: notice that the worker has ended, and after a pause start it again."""
        now = time.monotonic()
        if self._down_until is None and self._child.exit_status() is not None:
            self._down_until = now + INIT_PAUSE_S
            self._note_drain(now)
        if self._down_until is not None and now >= self._down_until:
            self._child.launch(self._program, orphan_signal=SIGKILL)
            self.lives += 1
            self._down_until = None

    @property
    def is_up(self) -> bool:
        return self._down_until is None and self._child.exit_status() is None

    @property
    def is_frozen(self) -> bool:
        """Whether something on it was stopped by a signal and not yet woken."""
        return any(_status(process) == psutil.STATUS_STOPPED for process in self._family())

    def flow_processes(self) -> list[psutil.Process]:
        """The processes of its flow runs."""
        return self._find(FLOW_MARK)

    def host_processes(self) -> list[psutil.Process]:
        """Its model host; none while it is between two lives."""
        return self._find(HOST_MARK)

    def send(self, number: Signals) -> list[psutil.Process]:
        """Send a signal to the worker alone; returns it."""
        if number == SIGTERM and self._asked_at is None:
            self._asked_at = time.monotonic()
        worker = self._family()[:1]
        signal_all(worker, number)
        return worker

    def freeze(self) -> list[psutil.Process]:
        """Stop all that runs on it, as a machine that is suspended; returns whom to wake."""
        family = self._family()
        signal_all(family, SIGSTOP)
        return family

    def lose(self, away_s: Seconds) -> None:
        """Kill all that runs on it, and keep it away."""
        self._child.end(SIGKILL, grace_s=0)
        self._down_until = time.monotonic() + away_s

    def stop(self) -> None:
        """Drain it for good."""
        if not self.is_up:
            return
        asked_at = time.monotonic()
        signal_all(self._family(), SIGCONT)
        self._child.end(SIGTERM, grace_s=STOP_GRACE_S)
        self.drains_s.append(time.monotonic() - asked_at)

    def kill(self) -> None:
        self._child.end(SIGKILL, grace_s=0)

    def log_tail(self) -> str:
        return self._child.log_tail()

    def _find(self, mark: str) -> list[psutil.Process]:
        return [process for process in self._family() if mark in _command_line(process)]

    def _family(self) -> list[psutil.Process]:
        if (pid := self._child.pid) is None:
            return []
        with suppress(psutil.NoSuchProcess):
            worker = psutil.Process(pid)
            return [worker, *worker.children(recursive=True)]
        return []

    def _note_drain(self, now: Seconds) -> None:
        if self._asked_at is not None:
            self.drains_s.append(now - self._asked_at)
            self._asked_at = None


def signal_all(processes: Iterable[psutil.Process], number: Signals) -> None:
    """Send a signal to those that still run."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if is_alive(process) else []
    except psutil.NoSuchProcess:
        return []

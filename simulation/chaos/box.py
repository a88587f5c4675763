"""A simulated box: a Prefect worker process, and an init that restarts the worker after each exit."""

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

FLOW_MARKER = "prefect.engine"
"""A string in the command line of every flow process of a `vast-gpu` worker."""
INFERENCE_MARKER = "validation.inference"
"""A string in the command line of the inference server."""
INIT_PAUSE_S: Seconds = 1.0
"""Seconds from the exit of a worker to its restart, as in the image's entry point."""
STOP_GRACE_S: Seconds = 60.0
"""Seconds that a worker has to drain before it is killed. They suffice on a busy machine."""


class Box:
    """One box. All its processes are descendants of the worker process, and end with the worker."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], *, pool: str, worker_type: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.sessions = 0
        """Number of times that the worker was started."""
        self.drains_s: list[Seconds] = []
        """Seconds that each drain took."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", worker_type]
        self._program = Program([*command, "--name", name], {**os.environ, **environment, "WORKER_ID": name})
        self._child = Child(name, folder)
        self._down_until: Seconds | None = 0.0
        self._asked_at: Seconds | None = None

    def restart_if_dead(self) -> None:
        """Restart the worker if it has exited and the pause after the exit is over. Call this repeatedly."""
        now = time.monotonic()
        if self._down_until is None and self._child.exit_status() is not None:
            self._down_until = now + INIT_PAUSE_S
            self._record_drain(now)
        if self._down_until is not None and now >= self._down_until:
            self._child.launch(self._program, orphan_signal=SIGKILL)
            self.sessions += 1
            self._down_until = None

    @property
    def is_up(self) -> bool:
        return self._down_until is None and self._child.exit_status() is None

    @property
    def is_frozen(self) -> bool:
        """Whether a process of the box is stopped by SIGSTOP."""
        return any(_status(process) == psutil.STATUS_STOPPED for process in self._processes())

    def flow_processes(self) -> list[psutil.Process]:
        """Return the processes of the box's flow runs."""
        return self._find(FLOW_MARKER)

    def inference_processes(self) -> list[psutil.Process]:
        """Return the process of the inference server; the list is empty while the server restarts."""
        return self._find(INFERENCE_MARKER)

    def send(self, number: Signals) -> list[psutil.Process]:
        """Send a signal to the worker process only. Return that process in a list, which is empty if there is none."""
        if number == SIGTERM and self._asked_at is None:
            self._asked_at = time.monotonic()
        worker = self._processes()[:1]
        signal_all(worker, number)
        return worker

    def freeze(self) -> list[psutil.Process]:
        """Send SIGSTOP to all processes, as if the machine were suspended. Return the stopped processes."""
        processes = self._processes()
        signal_all(processes, SIGSTOP)
        return processes

    def lose(self, away_s: Seconds) -> None:
        """Kill all processes, and do not restart the worker for ``away_s`` seconds."""
        self._child.end(SIGKILL, grace_s=0)
        self._down_until = time.monotonic() + away_s

    def stop(self) -> None:
        """Drain the worker with SIGTERM, and wait until it has exited. Do nothing if the worker is not up."""
        if not self.is_up:
            return
        asked_at = time.monotonic()
        signal_all(self._processes(), SIGCONT)
        self._child.end(SIGTERM, grace_s=STOP_GRACE_S)
        self.drains_s.append(time.monotonic() - asked_at)

    def kill(self) -> None:
        self._child.end(SIGKILL, grace_s=0)

    def log_tail(self) -> str:
        return self._child.log_tail()

    def _find(self, mark: str) -> list[psutil.Process]:
        return [process for process in self._processes() if mark in _command_line(process)]

    def _processes(self) -> list[psutil.Process]:
        if (pid := self._child.pid) is None:
            return []
        with suppress(psutil.NoSuchProcess):
            worker = psutil.Process(pid)
            return [worker, *worker.children(recursive=True)]
        return []

    def _record_drain(self, now: Seconds) -> None:
        if self._asked_at is not None:
            self.drains_s.append(now - self._asked_at)
            self._asked_at = None


def signal_all(processes: Iterable[psutil.Process], number: Signals) -> None:
    """Send a signal to each of the processes that still exists."""
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

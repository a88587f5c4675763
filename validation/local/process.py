"""One supervised child process: its log, its pid file, and an end that leaves nothing of it running."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

import psutil

from validation.domain import Seconds
from validation.errors import BadInput

POLL_S: Seconds = 0.05

_LAUNCHER = Path(__file__).parents[1] / "child_process.py"
_SAME_START_S: Seconds = 2.0
"""Start times are derived from the machine's clock: two readings may differ by an adjustment of it."""

_KILLED_WITHIN_S: Seconds = 10.0
"""SIGKILL needs no consent; only a process inside a slow system call makes it wait."""

_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
"""Starts every child. To the kernel a child's parent is the thread that forked it, and the child is told to
end when that thread does: this one lives as long as the process, whoever asks for the child."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a program runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, with exactly this environment, as whom; None means as ourselves."""

    command: Sequence[str]
    environment: Mapping[str, str]
    account: Account | None = None


class Child:
    """A child process in a session of its own, so that a terminal's Ctrl-C reaches only its parent.

    It is sent a signal when this process ends in whatever way, SIGKILL included (on Linux). What it prints is
    appended to `<folder>/<name>.log`; `<folder>/<name>.pid` tells a later run of what was left.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.log_path = folder / f"{name}.log"
        self._pid_path = folder / f"{name}.pid"
        self._spawning: Future[subprocess.Popen[bytes]] | None = None
        self._log_start = 0

    def launch(self, program: Program, *, orphan_signal: Signals) -> None:
        """Start the program and return at once. `orphan_signal` is what it gets when this process ends."""
        account = program.account
        user = ["--user", f"{account.uid}:{account.gid}"] if account else []
        options = ["--signal", str(int(orphan_signal)), *user, str(os.getpid())]
        command = [sys.executable, "-I", "-S", str(_LAUNCHER), *options, *program.command]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        # Kept before it is awaited: a Ctrl-C in between must not lose the child.
        self._spawning = _SPAWNER.submit(_spawn, command, program.environment, self.log_path)
        started = psutil.Process(self.pid).create_time()
        self._pid_path.write_text(json.dumps({"pid": self.pid, "started": started, "owner": os.getpid()}))

    @property
    def pid(self) -> int | None:
        """The process's id; None if it was never launched, or has been ended."""
        return self._spawning.result().pid if self._spawning else None

    def exit_status(self) -> int | None:
        """Return how it ended, negative for a signal; None while it runs."""
        return self._spawning.result().poll() if self._spawning else None

    def wait(self) -> int | None:
        """Wait for the process to end by itself; return how it did."""
        return self._spawning.result().wait() if self._spawning else None

    def end(self, farewell: Signals, *, grace_s: Seconds) -> None:
        """Send `farewell`; after `grace_s` kill the process and its descendants. No-op if it does not run."""
        if self._spawning is None:
            return
        process = self._spawning.result()
        if process.poll() is None:
            kill_process_tree(psutil.Process(process.pid), farewell, grace_s=grace_s)
            process.wait()
        self._pid_path.unlink(missing_ok=True)
        self._spawning = None

    def end_leftover(self, farewell: Signals, *, grace_s: Seconds) -> None:
        """End what a killed run left behind in this folder.

        Raises:
            BadInput: it still runs under the process that started it, so it is nobody's leftover.
        """
        record = _read_record(self._pid_path)
        process = _find_process(record)
        if process is None:
            return
        if process.ppid() == record["owner"]:
            raise BadInput(
                f"{self._pid_path.parent} is in use: process {process.ppid()} runs {self._pid_path.stem} "
                f"(pid {process.pid}) there; end that run, or choose another folder"
            )
        kill_process_tree(process, farewell, grace_s=grace_s)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines that it wrote since its latest launch."""
        if not self.log_path.exists():
            return ""
        written = self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(written.strip().splitlines()[-lines:])


def kill_process_tree(root: psutil.Process, farewell: Signals, *, grace_s: Seconds) -> None:
    """Send `farewell` to a process; what is left of it and its descendants after `grace_s` is killed.

    Returns when none of them runs. A dead process that nobody has reaped does not run.
    """
    with suppress(psutil.NoSuchProcess):
        family = [root, *root.children(recursive=True)]
        root.send_signal(farewell)
        if poll_until(lambda: not any(map(is_alive, family)), within_s=grace_s):
            return
        for process in filter(is_alive, family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        poll_until(lambda: not any(map(is_alive, family)), within_s=_KILLED_WITHIN_S)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether this very process runs: not a later one with its number, not a zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def poll_until(predicate: Callable[[], bool], *, within_s: Seconds) -> bool:
    """Wait for a predicate to hold; tell whether it did. Asks at once, and a last time at the deadline."""
    deadline = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _spawn(command: Sequence[str], environment: Mapping[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd="/",  # every account may be there, and no stray configuration file is read from it
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _read_record(pid_path: Path) -> dict[str, float]:
    try:
        record = json.loads(pid_path.read_text())
    except (OSError, ValueError):  # none, or cut short by the kill
        return {}
    return dict(record)


def _find_process(record: Mapping[str, float]) -> psutil.Process | None:
    """Find the process of a pid file, unless it is dead or its number has gone to another."""
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["started"]) < _SAME_START_S
    except (KeyError, psutil.NoSuchProcess):
        return None
    return process if same and is_alive(process) else None

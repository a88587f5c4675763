"""Run one supervised child process, with a log and a pid file. Ending the child also ends its descendants."""

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
"""Tolerance in the comparison of process start times: they are derived from the clock, which may be adjusted."""

_KILL_TIMEOUT_S: Seconds = 10.0
"""Time to wait after SIGKILL: a process inside a slow system call ends late."""

_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")
"""The thread that starts every child. The kernel sends the parent-death signal when the thread that forked the child
ends; this thread lives as long as the process."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account that a program runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Program:
    """A command with its complete environment. Without an account, the command runs as the current user."""

    command: Sequence[str]
    environment: Mapping[str, str]
    account: Account | None = None


class Child:
    """A child process in its own session, so that a terminal's Ctrl-C reaches only the parent.

    On Linux the child gets a signal when this process ends in any way, SIGKILL included. The child's output is appended
    to `<folder>/<name>.log`. A later run finds a leftover child by `<folder>/<name>.pid`.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.log_path = folder / f"{name}.log"
        self._pid_path = folder / f"{name}.pid"
        self._spawning: Future[subprocess.Popen[bytes]] | None = None
        self._log_start = 0

    def launch(self, program: Program, *, orphan_signal: Signals) -> None:
        """Start the program and return at once. The program gets `orphan_signal` when this process ends."""
        account = program.account
        user = ["--user", f"{account.uid}:{account.gid}"] if account else []
        options = ["--signal", str(int(orphan_signal)), *user, str(os.getpid())]
        command = [sys.executable, "-I", "-S", str(_LAUNCHER), *options, *program.command]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        # The future is stored before it is awaited, so that a Ctrl-C in between does not lose the child.
        self._spawning = _SPAWNER.submit(_spawn, command, program.environment, self.log_path)
        started = psutil.Process(self.pid).create_time()
        self._pid_path.write_text(json.dumps({"pid": self.pid, "started": started, "owner": os.getpid()}))

    @property
    def pid(self) -> int | None:
        """Return the process id; None if the child was never launched or was ended with ``end``."""
        return self._spawning.result().pid if self._spawning else None

    def exit_status(self) -> int | None:
        """Return the exit status (negative for a signal); None if the child runs, was never launched, or was ended."""
        return self._spawning.result().poll() if self._spawning else None

    def wait(self) -> int | None:
        """Wait until the child exits, without sending a signal to it.

        Return its exit status, negative for a signal; None if the child was never launched, or was ended with ``end``.
        """
        return self._spawning.result().wait() if self._spawning else None

    def end(self, stop_signal: Signals, *, grace_s: Seconds) -> None:
        """Send `stop_signal`; kill the child and its descendants after `grace_s`. Do nothing if no child runs."""
        if self._spawning is None:
            return
        process = self._spawning.result()
        if process.poll() is None:
            kill_process_tree(psutil.Process(process.pid), stop_signal, grace_s=grace_s)
            process.wait()
        self._pid_path.unlink(missing_ok=True)
        self._spawning = None

    def end_leftover(self, stop_signal: Signals, *, grace_s: Seconds) -> None:
        """End the child that a killed run left behind in this folder.

        Raises:
            BadInput: the parent of the child is still alive, so the folder is in use.
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
        kill_process_tree(process, stop_signal, grace_s=grace_s)

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the output since the latest launch."""
        if not self.log_path.exists():
            return ""
        written = self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(written.strip().splitlines()[-lines:])


def kill_process_tree(root: psutil.Process, stop_signal: Signals, *, grace_s: Seconds) -> None:
    """Send `stop_signal` to a process; kill the process and its descendants that still run after `grace_s`.

    The function returns when none of the processes runs, at the latest 10 s after the kill. A zombie does not count as
    running.
    """
    with suppress(psutil.NoSuchProcess):
        family = [root, *root.children(recursive=True)]
        root.send_signal(stop_signal)
        if poll_until(lambda: not any(map(is_alive, family)), within_s=grace_s):
            return
        for process in filter(is_alive, family):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        poll_until(lambda: not any(map(is_alive, family)), within_s=_KILL_TIMEOUT_S)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process runs. A zombie, or a later process with the same id, does not count."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def poll_until(predicate: Callable[[], bool], *, within_s: Seconds) -> bool:
    """Wait until a predicate is true, at most `within_s`. Return whether it became true. It is called at least once."""
    deadline = time.monotonic() + within_s
    while not predicate():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _spawn(command: Sequence[str], environment: Mapping[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, with its output appended to the log."""
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            env=dict(environment),
            cwd="/",  # every account can enter this folder, and it holds no configuration file
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _read_record(pid_path: Path) -> dict[str, float]:
    """Read a pid file: the process id, its start and the id of its parent. Empty if the file cannot be read."""
    try:
        record = json.loads(pid_path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the file is missing, or a kill truncated it
        return {}
    return dict(record)


def _find_process(record: Mapping[str, float]) -> psutil.Process | None:
    """Return the process of a pid file; None if the process is dead or its id was reused."""
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - record["started"]) < _SAME_START_S
    except (KeyError, psutil.NoSuchProcess):
        return None
    return process if same and is_alive(process) else None

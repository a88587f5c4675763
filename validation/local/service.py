"""The base class of the embedded servers: launch, readiness check, stop and kill, on ports of 127.0.0.1."""

import shutil
import socket
import sys
import time
from abc import ABC, abstractmethod
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import SystemRandom
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import ClassVar, Self

from validation.domain import Seconds
from validation.errors import Permanent
from validation.local.process import POLL_S, Child, Program

HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Candidate ports for servers. They are below the kernel's range for outgoing connections: no client can take a port
before a slow server binds it (up to 30 s later)."""


def is_free(port: int) -> bool:
    """Return whether a server could bind this port now."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(candidate, port)


def reserve_port() -> int:
    """Choose a random free port for a server. On Linux no other call in any process returns the same port.

    A bound socket that never listens reserves the port while this process lives. Servers set SO_REUSEADDR, so they can
    bind the reserved port. A second call binds without SO_REUSEADDR, so it cannot.

    Raises:
        OSError: all of the 1,000 ports tried were taken.
    """
    for port in SystemRandom().sample(_PORTS, 1000):
        with socket.socket() as candidate:
            if _bind(candidate, port):
                if sys.platform == "linux":
                    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    candidate.detach()
                return port
    raise OSError(f"no free port on {HOST} among {_PORTS.start}-{_PORTS.stop - 1}")


def _bind(candidate: socket.socket, port: int) -> bool:
    """Bind a socket to a port of 127.0.0.1. Return False if the port is taken."""
    try:
        candidate.bind((HOST, port))
    except OSError:
        return False
    return True


def try_http(port: int, method: str, path: str) -> str | None:
    """Send one request to a local port. Return why it failed, as a text; None if the status is 200.

    Proxies in the environment are not used, because a proxy would connect to its own 127.0.0.1.
    """
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(method, path)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{method} {path}: {error!r}"
    finally:
        connection.close()
    return None if status == HTTPStatus.OK else f"{method} {path}: status {status}"


class EmbeddedServiceFailed(Permanent):
    """A server of the embedded stack does not run or does not answer; the message holds the end of its log."""

    def __init__(self, service: str, reason: str, *, check: str, log: str, log_path: Path) -> None:
        self.service, self.reason, self.check = service, reason, check
        self.log, self.log_path = log, log_path
        ending = f"{log_path} ends:\n{log}" if log else f"{log_path} is empty"
        super().__init__(f"{service}: {reason}; {check}. {ending}")


class EmbeddedService(ABC):
    """One server: a child process, a folder, and a loopback port that stays the same across restarts.

    The object is a context manager that starts the server on entry and stops it on exit. The methods that end the
    server return when none of its processes runs any more. They do nothing if none runs.
    """

    name: ClassVar[str]
    check: ClassVar[str]
    """The hint for the error message when the server does not start."""
    ready_timeout_s: ClassVar[Seconds]
    """Time from the launch to the first answer, after which the start has failed."""
    stop_signal: ClassVar[Signals] = SIGTERM
    """The signal for an orderly shutdown."""
    grace_s: ClassVar[Seconds] = 10.0
    """Time for an orderly shutdown before the server is killed."""
    orphan_signal: ClassVar[Signals] = SIGKILL
    """The signal that the server gets when this process dies. SIGKILL, because no process remains that could kill the
    server after an orderly shutdown fails."""

    def __init__(self, base_dir: Path, *, port: int | None = None) -> None:
        self.base_dir = base_dir.resolve()
        self.port = port or reserve_port()
        self._child = Child(self.name.lower().replace(" ", "-"), self.base_dir)
        self._launched_at = 0.0

    @abstractmethod
    def client_environment(self) -> dict[str, str]:
        """Return the environment variables that a client of this server needs."""

    @abstractmethod
    def program(self) -> Program:
        """Return the command that runs the server, with its environment."""

    @abstractmethod
    def why_not_ready(self) -> str | None:
        """Send one request. Return why it failed, as a text; None if it succeeded."""

    def prepare(self) -> None:
        """Create the files that the server needs. Called before every launch, while the server does not run."""
        self.base_dir.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def log_path(self) -> Path:
        return self._child.log_path

    @property
    def age_s(self) -> Seconds:
        """Seconds since the latest launch."""
        return time.monotonic() - self._launched_at

    def launch(self) -> None:
        """Start the server without waiting until it answers. Processes that a killed run left behind are ended first.

        Raises:
            BadInput: a live process runs this server in this folder.
            EmbeddedServiceFailed: the preparation failed, or the port is taken.
        """
        self._launched_at = time.monotonic()
        self._child.end_leftover(self.stop_signal, grace_s=self.grace_s)
        self.prepare()
        if not is_free(self.port):
            raise self.failure(f"another program has port {self.port} of {HOST}")
        self._child.launch(self.program(), orphan_signal=self.orphan_signal)

    def is_ready(self) -> bool:
        """Return whether the launched server answers.

        Raises:
            EmbeddedServiceFailed: the server has exited, or `ready_timeout_s` have passed.
        """
        status = self._child.exit_status()
        if status is not None:
            raise self.failure(f"it ended with status {status}")
        reason = self.why_not_ready()
        if reason is not None and self.age_s > self.ready_timeout_s:
            raise self.failure(f"it does not answer after {self.ready_timeout_s:.0f} s ({reason})")
        return reason is None

    def start(self) -> Self:
        """Launch the server and return when it answers. After an error none of its processes runs.

        Raises:
            BadInput, EmbeddedServiceFailed: as `launch` and `is_ready` do.
        """
        try:
            self.launch()
            while not self.is_ready():
                time.sleep(POLL_S)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Shut the server down with `stop_signal`. Processes that still run after `grace_s` are killed."""
        self._child.end(self.stop_signal, grace_s=self.grace_s)

    def kill(self) -> None:
        """Kill all processes of the server at once, as a power failure would."""
        self._child.end(SIGKILL, grace_s=0)

    def erase(self) -> None:
        """Stop the server and delete its data. The object cannot be used afterwards; create a new one.

        Raises:
            BadInput: another live process runs this server in this folder; nothing was deleted.
        """
        self.stop()
        self._child.end_leftover(self.stop_signal, grace_s=self.grace_s)
        shutil.rmtree(self.base_dir, ignore_errors=True)

    def failure(self, reason: str) -> EmbeddedServiceFailed:
        """Return the error for a server that does not run, with the end of its log."""
        return EmbeddedServiceFailed(
            self.name, reason, check=self.check, log=self._child.log_tail(), log_path=self.log_path
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

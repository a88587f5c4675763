"""What the servers of the embedded stack have in common: how they are launched, awaited, ended and killed."""

import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from types import TracebackType
from typing import ClassVar, Self

from validation.domain import Seconds
from validation.errors import Permanent
from validation.local.loopback import HOST, free_port, is_free
from validation.local.process import POLL_S, Child, Program


class LocalServiceFailed(Permanent):
    """A server of the embedded stack does not run or does not answer, and somebody has to look why."""

    def __init__(self, service: str, reason: str, *, check: str, log: str, log_path: Path) -> None:
        self.service, self.reason, self.check = service, reason, check
        self.log, self.log_path = log, log_path
        ending = f"{log_path} ends:\n{log}" if log else f"{log_path} is empty"
        super().__init__(f"{service}: {reason}; {check}. {ending}")


class EmbeddedService(ABC):
    """One server: a child process, a folder, and an address on loopback that restarts keep.

    Usable as a context manager: started on entry, stopped on exit. Every method that ends it returns when no
    process of it runs any more, and may be called when none does.
    """

    name: ClassVar[str]
    check: ClassVar[str]
    """What a person can look at when it does not start."""
    ready_within_s: ClassVar[Seconds]
    farewell: ClassVar[Signals] = SIGTERM
    """Asks it to end in order."""
    grace_s: ClassVar[Seconds] = 10.0
    """How long it may take to end in order before it is killed."""
    orphan_signal: ClassVar[Signals] = SIGKILL
    """What it gets when this process dies without a word: nobody is left to insist, so no polite request."""

    def __init__(self, base_dir: Path, *, port: int | None = None) -> None:
        self.base_dir = base_dir.resolve()
        self.port = port or free_port()
        self._child = Child(self.name.lower().replace(" ", "-"), self.base_dir)
        self._launched_at = 0.0

    @abstractmethod
    def client_environment(self) -> dict[str, str]:
        """What a process needs in its environment to find and use this server."""

    @abstractmethod
    def program(self) -> Program:
        """What to run."""

    @abstractmethod
    def why_not_ready(self) -> str | None:
        """Use the server once. Returns why that did not work, None if it did."""

    def prepare(self) -> None:
        """Make what the server expects to find. Called before every launch; nothing of it runs then."""
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
        """Start the server without waiting for it; what a killed run left in the folder is ended first.

        Raises:
            BadInput: a live process runs this server in this folder.
            LocalServiceFailed: its preparation failed, or its port is taken.
        """
        self._launched_at = time.monotonic()
        self._child.end_leftover(self.farewell, grace_s=self.grace_s)
        self.prepare()
        if not is_free(self.port):
            raise self.failure(f"another program has port {self.port} of {HOST}")
        self._child.launch(self.program(), orphan_signal=self.orphan_signal)

    def is_ready(self) -> bool:
        """Tell whether the launched server answers.

        Raises:
            LocalServiceFailed: it has ended, or `ready_within_s` have passed.
        """
        status = self._child.exit_status()
        if status is not None:
            raise self.failure(f"it ended with status {status}")
        reason = self.why_not_ready()
        if reason is not None and self.age_s > self.ready_within_s:
            raise self.failure(f"it does not answer after {self.ready_within_s:.0f} s ({reason})")
        return reason is None

    def start(self) -> Self:
        """Launch the server and return when it answers; when it does not, nothing of it is left running.

        Raises:
            BadInput, LocalServiceFailed: as `launch` and `is_ready` do.
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
        """End the server in order; kill what has not ended after `grace_s`."""
        self._child.end(self.farewell, grace_s=self.grace_s)

    def kill(self) -> None:
        """End the server as a lost machine would: SIGKILL, all its processes at once."""
        self._child.end(SIGKILL, grace_s=0)

    def restart(self) -> None:
        """Stop the server and start it at the same address."""
        self.stop()
        self.start()

    def erase(self) -> None:
        """End it and delete all that it stored. To begin afresh make a new object: this one is of no more use.

        Raises:
            BadInput: another live process runs this server in this folder; nothing was deleted.
        """
        self.stop()
        self._child.end_leftover(self.farewell, grace_s=self.grace_s)
        shutil.rmtree(self.base_dir, ignore_errors=True)

    def failure(self, reason: str) -> LocalServiceFailed:
        """Describe why the server does not run, with the end of its log."""
        return LocalServiceFailed(
            self.name, reason, check=self.check, log=self._child.log_tail(), log_path=self.log_path
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

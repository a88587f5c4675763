"""The embedded stack as one thing: Postgres, object store and Prefect server under one folder."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

from validation.local.loopback import HOST
from validation.local.objectstore import EmbeddedObjectStore
from validation.local.postgres import EmbeddedPostgres
from validation.local.prefect_server import EmbeddedPrefect
from validation.local.process import POLL_S
from validation.local.service import EmbeddedService

SOURCE_BUCKET = "transcribed"
RESULTS_BUCKET = "validation-results"

Report = Callable[[str], None]


class LocalStack:
    """Three servers that start together and end together, however this process ends.

    A folder can be used again; the ledger and Prefect's history are kept, objects are not. What an earlier
    run left running there, killed before it could stop it, is ended first.
    """

    def __init__(self, folder: Path, *, prefect_database_url: str | None = None, report: Report = print) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.object_store = EmbeddedObjectStore(folder / "objects", buckets=(SOURCE_BUCKET, RESULTS_BUCKET))
        # On SQLite unless told otherwise, which bears a hundred workers at most and now and then refuses one with 503.
        self.prefect = EmbeddedPrefect(folder / "prefect", database_url=prefect_database_url)
        self._report = report
        self._undo = ExitStack()

    def environment(self) -> dict[str, str]:
        """What a process needs, beside what it has, to work on this stack and on nothing else."""
        exempt = [os.environ.get("NO_PROXY"), HOST]
        return {
            **self.postgres.client_environment(),
            **self.object_store.client_environment(),
            **self.prefect.client_environment(),
            "VFLEET_SOURCE_URL": f"s3://{SOURCE_BUCKET}",
            "VFLEET_RESULTS_URL": f"s3://{RESULTS_BUCKET}",
            "NO_PROXY": ",".join(filter(None, exempt)),
        }

    def erase(self) -> None:
        """Delete what earlier runs kept, and end what they left running. Then make a new stack to begin afresh.

        Raises:
            BadInput: a live process runs a stack in this folder; nothing of what it uses was deleted.
        """
        for service in (self.prefect, self.object_store, self.postgres):
            service.erase()

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            BadInput: a live process runs a stack in this folder.
            LocalServiceFailed: a server does not start; the others have been stopped.
        """
        # Prefect's server is the slowest to come: it loads while a cluster is made for Postgres.
        self._undo.enter_context(running((self.prefect, self.object_store, self.postgres), self._report))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)


@contextmanager
def running(services: Sequence[EmbeddedService], report: Report) -> Iterator[None]:
    """Start services side by side; stop them in reverse order at the end, be it error, Ctrl-C or SIGTERM."""
    with ExitStack() as undo:
        undo.enter_context(_sigterm_unwinds())
        for service in services:
            undo.callback(service.stop)
            service.launch()
        _await_all(services, report)
        yield


def _await_all(services: Sequence[EmbeddedService], report: Report) -> None:
    waiting = list(services)
    while waiting:
        time.sleep(POLL_S)
        for service in filter(EmbeddedService.is_ready, waiting.copy()):
            report(f"{service.name} ready in {service.age_s:.1f} s")
            waiting.remove(service)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the main thread as Ctrl-C does. Other threads cannot have signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_as_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_as_terminated(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)

"""The embedded stack: Postgres, object store and Prefect server under one folder."""

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
    """Three servers that start together and end together, even if this process is killed.

    A folder can be reused: the ledger and Prefect's history are kept, objects are not. Servers that a killed run left
    behind are ended first.
    """

    def __init__(self, folder: Path, *, prefect_database_url: str | None = None, report: Report = print) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.object_store = EmbeddedObjectStore(folder / "objects", buckets=(SOURCE_BUCKET, RESULTS_BUCKET))
        # SQLite by default; it serves about 100 workers and sometimes answers 503.
        self.prefect = EmbeddedPrefect(folder / "prefect", database_url=prefect_database_url)
        self._report = report
        self._undo = ExitStack()

    def environment(self) -> dict[str, str]:
        """The variables that a process needs, besides its own, to use this stack."""
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
        """Delete the data of earlier runs and end their processes. Create a new stack afterwards.

        Raises:
            BadInput: a live process runs a stack in this folder; its data was not deleted.
        """
        for service in (self.prefect, self.object_store, self.postgres):
            service.erase()

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            BadInput: a live process runs a stack in this folder.
            LocalServiceFailed: a server does not start; the others have been stopped.
        """
        # Prefect's server starts first because it is the slowest: it loads while the Postgres cluster is created.
        self._undo.enter_context(running((self.prefect, self.object_store, self.postgres), self._report))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)


@contextmanager
def running(services: Sequence[EmbeddedService], report: Report) -> Iterator[None]:
    """Start services concurrently; stop them in reverse order at the end, also after an error, Ctrl-C or SIGTERM."""
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
    """Let SIGTERM unwind the main thread as Ctrl-C does; other threads cannot set signal handlers."""
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

"""The embedded stack: Postgres, object store and Prefect server under one folder, and Prefect workers.

The object store is an S3-compatible server that keeps objects while it runs. The Prefect server is one process with a
Prefect home of its own and without telemetry. Workers are started with the same command as in production.
"""

import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGKILL, SIGTERM
from types import FrameType, TracebackType
from typing import ClassVar, NoReturn, Self

from validation.domain import Seconds
from validation.local.postgres import EmbeddedPostgres
from validation.local.process import POLL_S, Child, Program
from validation.local.service import HOST, EmbeddedService, try_http

RUNNER_FOLDER = "runner_storage"
"""Name of the folder in the machine's temporary folder where Prefect keeps the working copies of its runs."""


def temporary_folder_variables() -> dict[str, str]:
    """Return TMPDIR for a worker if another account owns Prefect's folder for runs; otherwise an empty mapping."""
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
    """`prefect worker start` as a child process: the worker of a box, or with the pool `control` the control worker."""

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
        self._environment = {**os.environ, **temporary_folder_variables(), **environment, "WORKER_ID": name}
        self._command = ["worker", "start", "--name", name, "--pool", pool, "--type", kind, "--limit", str(limit)]
        self._child = Child(f"worker-{name}", folder)

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def launch(self) -> Self:
        """Start the worker and return at once."""
        self._child.launch(
            Program([sys.executable, "-m", "prefect", *self._command], self._environment), orphan_signal=SIGKILL
        )
        return self

    def has_ended(self) -> bool:
        return self._child.exit_status() is not None

    def log_tail(self) -> str:
        return self._child.log_tail()

    def stop(self) -> None:
        """Drain the worker, so that its chunks are finished or released. Kill the worker after 150 s."""
        self._child.end(SIGTERM, grace_s=150.0)


_SPOOL_BYTES = 65_536
"""Object size above which moto uses an unlinked temporary file. In memory, 1 GB of uploads took 4.7 GB."""


class EmbeddedObjectStore(EmbeddedService):
    """The S3 server of moto, with conditional writes, ranges and multipart uploads like R2; it accepts any credentials.

    Objects are lost when the server stops; the buckets are created again at each start.
    """

    name: ClassVar[str] = "Object store"
    check: ClassVar[str] = "check that moto[server] is installed (the extra `local` has it)"
    ready_timeout_s: ClassVar[Seconds] = 60.0
    access_key_id: ClassVar[str] = "local"
    secret_access_key: ClassVar[str] = "local"  # noqa: S105 - the server accepts any key

    def __init__(self, base_dir: Path, *, buckets: Sequence[str] = (), port: int | None = None) -> None:
        super().__init__(base_dir, port=port)
        self._buckets = list(buckets)

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        return {
            "R2_ENDPOINT_URL": self.endpoint_url,
            "R2_ACCESS_KEY_ID": self.access_key_id,
            "R2_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def create_bucket(self, name: str) -> None:
        """Create a bucket, now and at each restart. An existing bucket is kept.

        Raises:
            EmbeddedServiceFailed: the server refused the request or does not answer.
        """
        if (reason := try_http(self.port, "PUT", f"/{name}")) is not None:
            raise self.failure(reason)
        self._buckets.append(name)

    def prepare(self) -> None:
        self._spool.mkdir(parents=True, exist_ok=True)

    def program(self) -> Program:
        spooling = {"MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(_SPOOL_BYTES), "TMPDIR": str(self._spool)}
        return Program(
            [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)],
            {**os.environ, **spooling},
        )

    def why_not_ready(self) -> str | None:
        """Return why the server is not ready; None if it answers and its buckets exist. Missing buckets are created."""
        asked = (try_http(self.port, "PUT", f"/{bucket}") for bucket in self._buckets)
        return try_http(self.port, "GET", "/moto-api/") or next(filter(None, asked), None)

    @property
    def _spool(self) -> Path:
        """Return the folder of the temporary files of large objects."""
        return self.base_dir / "spool"


SETTINGS_FILE = Path(__file__).resolve().parents[2] / "deploy/prefect-server.env"
"""The settings file of a production server. The embedded server uses the same settings."""


class EmbeddedPrefect(EmbeddedService):
    """`prefect server start` on SQLite in `base_dir`, or on a Postgres database."""

    name: ClassVar[str] = "Prefect server"
    check: ClassVar[str] = "check that prefect and fastapi have the versions of constraints.lock"
    ready_timeout_s: ClassVar[Seconds] = 180.0  # the first start migrates a new database: 30 s on two busy cores

    def __init__(
        self,
        base_dir: Path,
        *,
        port: int | None = None,
        database_url: str | None = None,
        auth_string: str | None = None,
    ) -> None:
        super().__init__(base_dir, port=port)
        self._database_url, self._auth_string = database_url, auth_string

    @property
    def ui_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    def client_environment(self) -> dict[str, str]:
        password = {"PREFECT_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        return {"PREFECT_API_URL": self.api_url, **password, **self._common_settings()}

    def program(self) -> Program:
        """Return the command of the server, with an environment without settings of another Prefect installation."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        password = {"PREFECT_SERVER_API_AUTH_STRING": self._auth_string} if self._auth_string else {}
        own = self._common_settings() | self._address() | self._database() | password
        settings = read_settings_file(SETTINGS_FILE) | own
        return Program([sys.executable, "-m", "prefect", "server", "start"], inherited | settings)

    def why_not_ready(self) -> str | None:
        return try_http(self.port, "GET", "/api/health")

    def _common_settings(self) -> dict[str, str]:
        """Return the settings of server and clients: a Prefect home of their own, and no telemetry."""
        return {
            "PREFECT_HOME": str(self.base_dir),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "DO_NOT_TRACK": "1",
        }

    def _address(self) -> dict[str, str]:
        """Return the server's address as settings. Command options would not reach the pages of the UI."""
        return {"PREFECT_SERVER_API_HOST": HOST, "PREFECT_SERVER_API_PORT": str(self.port)}

    def _database(self) -> dict[str, str]:
        """Return the setting of the Postgres database; empty for SQLite."""
        if self._database_url is None:
            return {}
        authority = self._database_url.partition("://")[2]
        # Prefect connects to Postgres through asyncpg only, so the URL's driver is replaced.
        return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{authority}"}


def read_settings_file(path: Path) -> dict[str, str]:
    """Read a file with one assignment per line, with shell quoting and comments, as a mapping."""
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words)


SOURCE_BUCKET = "transcribed"
RESULTS_BUCKET = "validation-results"

Report = Callable[[str], None]
"""A function that shows one line about the start of the servers, such as ``print``."""


class LocalStack:
    """Three servers that start together and end together, even if this process is killed.

    A folder can be reused: the ledger and Prefect's history are kept, but objects are lost. Servers that a killed run
    left behind are ended first.
    """

    def __init__(self, folder: Path, *, prefect_database_url: str | None = None, report: Report = print) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.object_store = EmbeddedObjectStore(folder / "objects", buckets=(SOURCE_BUCKET, RESULTS_BUCKET))
        # The default database is SQLite. It serves about 100 workers, and the server then sometimes answers 503.
        self.prefect = EmbeddedPrefect(folder / "prefect", database_url=prefect_database_url)
        self._report = report
        self._undo = ExitStack()

    def environment(self) -> dict[str, str]:
        """Return the environment variables that a process must add to its environment to use this stack."""
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
        """Start the three servers.

        Raises:
            BadInput: a live process runs a stack in this folder.
            EmbeddedServiceFailed: a server does not start; the others have been stopped.
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
    """Start services concurrently. Stop them in reverse order at the end, also after an error, Ctrl-C or SIGTERM."""
    with ExitStack() as undo:
        undo.enter_context(_sigterm_unwinds())
        for service in services:
            undo.callback(service.stop)
            service.launch()
        _await_all(services, report)
        yield


def _await_all(services: Sequence[EmbeddedService], report: Report) -> None:
    """Wait until all launched services answer, and report each one that does."""
    waiting = list(services)
    while waiting:
        time.sleep(POLL_S)
        for service in filter(EmbeddedService.is_ready, waiting.copy()):
            report(f"{service.name} ready in {service.age_s:.1f} s")
            waiting.remove(service)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the main thread. In another thread do nothing: it cannot set signal handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit_as_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_as_terminated(number: int, _frame: FrameType | None) -> NoReturn:
    """Raise SystemExit with the exit code of a process that a signal ended."""
    raise SystemExit(128 + number)

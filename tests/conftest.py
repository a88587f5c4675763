"""What every test stands on: the embedded servers, started when first asked for and shared by the session.

- `postgres`, `object_store`, `prefect_server` are real. Databases and buckets of their own keep tests apart;
  whoever kills or reconfigures a server starts one for itself, under `open_folder`.
- No test sees the settings of whoever runs it, or reaches an address outside this machine.
- A test that leaves a multipart upload fails; a session that leaves a process running fails, and ends it.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import psutil
import pytest

from validation.local.objectstore import EmbeddedObjectStore
from validation.local.postgres import EmbeddedPostgres
from validation.local.prefect_server import EmbeddedPrefect
from validation.local.process import is_alive

pytest_plugins = ["tests.support.ledger_fixtures", "tests.support.worker_fixtures", "tests.support.fleet_fixtures"]

_FOREIGN = (
    "AWS_",
    "CONTAINER_ID",
    "DATABASE_URL",
    "GPU_",
    "PARQUET_",
    "PG",
    "PREFECT_",
    "R2_",
    "VAST_",
    "VFLEET_",
    "WORKER_",
)
"""Beginnings of variables that lead to somebody's real services, or change what the project does."""

_OWN = "VFLEET_MUTANT"
"""The exception: it is how a mutant of the ledger is handed to the tests that must catch it."""

_MARK = "TEST_SESSION"
"""Every process that a test starts inherits this variable, with a value that is this session's alone."""

_FOLDER = pytest.StashKey[Path]()
_BUCKETS = pytest.StashKey[set[str]]()
"""Those of the session's store that an earlier test made."""


def pytest_configure(config: pytest.Config) -> None:
    """Settle the environment before any module under test is imported."""
    folder = Path(tempfile.mkdtemp(prefix="vfleet-tests-"))
    folder.chmod(0o711)  # pytest's own folders are closed to the account that Postgres runs as; this one is not
    config.stash[_FOLDER], config.stash[_BUCKETS] = folder, set()
    config.add_cleanup(lambda: shutil.rmtree(folder))
    for name in [name for name in os.environ if name.startswith(_FOREIGN) and name != _OWN]:
        del os.environ[name]
    os.environ |= {
        _MARK: uuid4().hex,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    sys.addaudithook(_stay_on_loopback)


@pytest.fixture(scope="session")
def session_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of the session's servers. Deleted at the end, whoever forgets what in it."""
    return pytestconfig.stash[_FOLDER]


@pytest.fixture
def open_folder(session_folder: Path) -> Iterator[Path]:
    """A test's own folder for servers: like `tmp_path`, but open to the account that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(dir=session_folder))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """After the session no process lives that a test started, or that such a process started."""
    yield
    left = _left_running()
    told = [f"{process.pid} {' '.join(process.cmdline())[:120]}" for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    if told:
        pytest.fail("tests left running:\n" + "\n".join(told))


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[EmbeddedPostgres]:
    """An empty Postgres. `create_database` gives a test its own, a copy of a template in 0.1 s."""
    with EmbeddedPostgres(session_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def object_store(session_folder: Path) -> Iterator[EmbeddedObjectStore]:
    """An S3-compatible store without buckets. `create_bucket` gives a test its own."""
    with EmbeddedObjectStore(session_folder / "objects") as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left_uploading(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test no bucket that it made in the session's store holds a multipart upload that nobody ends."""
    yield
    if "object_store" not in request.fixturenames:
        return
    store, looked_at = request.getfixturevalue("object_store"), request.config.stash[_BUCKETS]
    buckets = set(re.findall("<Name>(.+?)</Name>", _ask(store, ""))) - looked_at
    looked_at |= buckets
    if left := [bucket for bucket in sorted(buckets) if "<Upload>" in _ask(store, f"{bucket}?uploads")]:
        pytest.fail(f"the test left multipart uploads in {left}")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[EmbeddedPrefect]:
    """A Prefect server. It takes 10 to 30 s to come, so ask for it only where nothing less will do.

    `client_environment` has what a process needs to use it; this process is not changed.
    """
    with EmbeddedPrefect(Path(os.environ["PREFECT_HOME"])) as server:
        yield server


def _ask(store: EmbeddedObjectStore, path: str) -> str:
    ask = build_opener(ProxyHandler({}))  # the store is on loopback, whatever proxy the environment names
    with ask.open(f"{store.endpoint_url}/{path}", timeout=30) as reply:
        return str(reply.read(), "utf-8")


def _left_running() -> list[psutil.Process]:
    session = psutil.Process()
    marked = (process for process in psutil.process_iter(["environ"]) if _is_marked(process))
    found = {*session.children(recursive=True), *marked} - {session}
    return [process for process in found if is_alive(process) and not _ends_with_us(process)]


def _is_marked(process: psutil.Process) -> bool:
    return (process.info["environ"] or {}).get(_MARK) == os.environ[_MARK]


def _ends_with_us(process: psutil.Process) -> bool:
    """The interpreter's own resource tracker lives exactly as long as the process that it serves."""
    return "multiprocessing.resource_tracker" in " ".join(process.cmdline())


def _stay_on_loopback(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse look-ups and connections that would leave this machine. Blind to what libraries in C or Rust do."""
    host: object = None
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if isinstance(host, str) and not _is_loopback(host):
        raise PermissionError(f"a test tried to reach {host}: tests stay on loopback")


def _is_loopback(host: str) -> bool:
    if host in {"", "localhost"}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False

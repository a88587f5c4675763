"""Fixtures of every test: the embedded servers, started at first use and shared by the session.

- `postgres`, `object_store`, `prefect_server` are real. Tests use databases and buckets of their own; a test that
  kills or reconfigures a server starts one for itself, under `open_folder`.
- Tests do not see the settings of the user who runs them, and reach no address outside this machine.
- A test that leaves a multipart upload fails; a session that leaves a process running fails, and the process is ended.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

import psutil
import pytest

from validation.local.postgres import EmbeddedPostgres
from validation.local.process import is_alive
from validation.local.stack import EmbeddedObjectStore, EmbeddedPrefect

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
"""Prefixes of variables that name real services or change the project's behaviour."""

_MARK = "TEST_SESSION"
"""Every process that a test starts inherits this variable, with a value unique to the session."""

_TOGETHER = (
    ("tests/doctor/", "tests/flows/", "tests/fleet/test_flow.py"),
    ("tests/models/",),
)
"""Tests that share a server or models: one process of `pytest -n` runs each group."""

_FOLDER = pytest.StashKey[Path]()
_BUCKETS = pytest.StashKey[set[str]]()
"""The buckets of the session's store that earlier tests made."""


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before any module under test is imported."""
    folder = Path(tempfile.mkdtemp(prefix="vfleet-tests-"))
    folder.chmod(0o711)  # the account that Postgres runs as can enter this folder, unlike pytest's own
    config.stash[_FOLDER], config.stash[_BUCKETS] = folder, set()
    config.add_cleanup(lambda: shutil.rmtree(folder))
    for name in [name for name in os.environ if name.startswith(_FOREIGN)]:
        del os.environ[name]
    os.environ |= {
        _MARK: uuid4().hex,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    sys.addaudithook(_stay_on_loopback)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadfile`, one process runs all tests of the Prefect server, and one those of the speech models.

    Each process would start the server, and load the models, for itself.
    """
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next(
                (folders[0] for folders in _TOGETHER if nodeid.startswith(folders)), nodeid.split("::", maxsplit=1)[0]
            )

    return Scheduler(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Say how a process of `pytest -n` died: the report names only the test that it was running."""
    if error:
        status = node.gateway._io.popen.wait(timeout=10)
        sys.stderr.write(f"\n{node.gateway.id} ended with status {status}; a negative status is a signal\n")


@pytest.fixture(scope="session")
def session_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of the session's servers; it is deleted at the end."""
    return pytestconfig.stash[_FOLDER]


@pytest.fixture
def open_folder(session_folder: Path) -> Iterator[Path]:
    """A test's own folder for servers: like `tmp_path`, but the account that Postgres runs as can enter it."""
    folder = Path(tempfile.mkdtemp(dir=session_folder))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def nothing_left_running() -> Iterator[None]:
    """After the session no process that a test started, directly or indirectly, still runs."""
    yield
    left = _left_running()
    described = [f"{process.pid} {' '.join(process.cmdline())[:120]}" for process in left]
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    if described:
        pytest.fail("tests left running:\n" + "\n".join(described))


@pytest.fixture(scope="session")
def postgres(session_folder: Path) -> Iterator[EmbeddedPostgres]:
    """An empty Postgres. `create_database` makes a database per test, a copy of a template, in 0.1 s."""
    with EmbeddedPostgres(session_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def object_store(session_folder: Path) -> Iterator[EmbeddedObjectStore]:
    """An S3-compatible store without buckets. `create_bucket` makes a bucket per test."""
    with EmbeddedObjectStore(session_folder / "objects") as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_left_uploading(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test the buckets that it made in the session's store hold no unfinished multipart upload."""
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
    """A Prefect server. It takes 10 to 30 s to start, so use it only where a test needs a real server.

    `client_environment` holds the variables for its clients; the environment of this process is not changed.
    """
    with EmbeddedPrefect(Path(os.environ["PREFECT_HOME"])) as server:
        yield server


def _ask(store: EmbeddedObjectStore, path: str) -> str:
    opener = build_opener(ProxyHandler({}))  # without the proxies of the environment: the store is on loopback
    with opener.open(f"{store.endpoint_url}/{path}", timeout=30) as reply:
        return str(reply.read(), "utf-8")


def _left_running() -> list[psutil.Process]:
    session = psutil.Process()
    marked = (process for process in psutil.process_iter(["environ"]) if _is_marked(process))
    found = {*session.children(recursive=True), *marked} - {session}
    return [process for process in found if is_alive(process) and not _ends_with_us(process)]


def _is_marked(process: psutil.Process) -> bool:
    return (process.info["environ"] or {}).get(_MARK) == os.environ[_MARK]


def _ends_with_us(process: psutil.Process) -> bool:
    """The interpreter's resource tracker ends together with the process that it serves."""
    return "multiprocessing.resource_tracker" in " ".join(process.cmdline())


def _stay_on_loopback(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse name lookups and connections that would leave this machine. Libraries in C or Rust are not covered."""
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

"""The servers of the stack start and end together, even if the parent is killed, and behave as in production."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from urllib.request import ProxyHandler, build_opener

import obstore
import psutil
import psycopg
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from validation.local.postgres import EmbeddedPostgres
from validation.local.process import is_alive, poll_until
from validation.local.service import HOST, EmbeddedServiceFailed, try_http
from validation.local.stack import (
    RUNNER_FOLDER,
    EmbeddedObjectStore,
    EmbeddedPrefect,
    LocalStack,
    running,
    temporary_folder_variables,
)
from validation.settings import Settings

pytestmark = pytest.mark.stack

SOME_SERVICES = """
import json, signal, sys
from pathlib import Path
from validation.local.stack import EmbeddedObjectStore
from validation.local.postgres import EmbeddedPostgres
from validation.local.stack import running
folder = Path(sys.argv[1])
services = EmbeddedObjectStore(folder / "objects"), EmbeddedPostgres(folder / "postgres")
with running(services, lambda line: print(line, file=sys.stderr)):
    print(json.dumps([service.pid for service in services]), flush=True)
    signal.pause()
"""

WHOLE_STACK = """
import json, signal, sys
from pathlib import Path
from validation.local.stack import LocalStack
with LocalStack(Path(sys.argv[1]), report=lambda line: print(line, file=sys.stderr)) as stack:
    print(json.dumps(stack.environment()), flush=True)
    signal.pause()
"""


@contextmanager
def parent_running(script, folder):
    """Run a script in another process; yield that process, all it started, and the line that it printed."""
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        line = json.loads(parent.stdout.readline())
        family = psutil.Process(parent.pid).children(recursive=True)
        try:
            yield parent, family, line
        finally:
            parent.kill()


@pytest.mark.parametrize(("ending", "status"), [(SIGINT, -SIGINT), (SIGTERM, 128 + SIGTERM), (SIGKILL, -SIGKILL)])
def test_every_server_ends_with_its_parent(open_folder, ending, status):
    """After SIGINT, SIGTERM or SIGKILL of the parent no server runs."""
    with parent_running(SOME_SERVICES, open_folder) as (parent, family, pids):
        assert set(pids) < {process.pid for process in family}
        parent.send_signal(ending)
        assert parent.wait(30) == status
        assert poll_until(lambda: not any(map(is_alive, family)), within_s=10), family
    if ending != SIGKILL:
        assert not list(open_folder.rglob("*.pid"))


def copy_history(server, home):
    """Copy a migrated database, because the migration of a new one is the slowest part of the test."""
    home.mkdir()
    source, copy = (sqlite3.connect(folder / "prefect.db") for folder in (server.base_dir, home))
    with closing(source), closing(copy):
        source.backup(copy)


def test_stack_serves_the_addresses_in_its_environment(prefect_server, open_folder):
    """Each server answers at the address in the environment, and all end when the parent is killed."""
    copy_history(prefect_server, open_folder / "prefect")
    with parent_running(WHOLE_STACK, open_folder) as (parent, family, environment):
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        store_port = int(environment["R2_ENDPOINT_URL"].rpartition(":")[2])
        for setting in ("VFLEET_SOURCE_URL", "VFLEET_RESULTS_URL"):
            assert try_http(store_port, "HEAD", f"/{environment[setting].removeprefix('s3://')}") is None
        prefect_port = int(environment["PREFECT_API_URL"].split(":")[2].partition("/")[0])
        assert try_http(prefect_port, "GET", "/api/health") is None
        parent.kill()
        assert poll_until(lambda: not any(map(is_alive, family)), within_s=10), family


def test_stack_environment_sets_the_settings(open_folder, monkeypatch):
    """The settings read the stack's addresses and keys from its environment."""
    stack = LocalStack(open_folder)
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.database_url.get_secret_value() == stack.postgres.libpq_url()
    assert settings.s3_endpoint_url == stack.object_store.endpoint_url
    assert settings.s3_access_key_id.get_secret_value() == stack.object_store.access_key_id
    assert settings.s3_secret_access_key.get_secret_value() == stack.object_store.secret_access_key
    assert (settings.source_url, settings.results_url) == ("s3://transcribed", "s3://validation-results")


def test_no_proxy_is_extended_by_loopback(open_folder, monkeypatch):
    """Hosts that are already in NO_PROXY stay in it."""
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert LocalStack(open_folder).environment()["NO_PROXY"] == f"example.org,{HOST}"


def test_failed_server_stops_the_others(open_folder):
    """If one server fails to start, the others are stopped, and the error names the failed one."""
    postgres = EmbeddedPostgres(open_folder / "postgres")
    store = EmbeddedObjectStore(open_folder / "objects", buckets=["X"])  # no legal bucket name
    store.ready_timeout_s = 0.1
    with (
        pytest.raises(EmbeddedServiceFailed, match="Object store: it does not answer"),
        running((postgres, store), print),
    ):
        pass
    assert postgres.pid is None
    assert store.pid is None


def test_taken_port_is_named(open_folder):
    """A server is not launched on a port that another program uses."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServiceFailed, match=f"another program has port {port}"):
            EmbeddedObjectStore(open_folder / "objects", port=port).start()


def test_each_ready_server_is_reported(open_folder):
    """One line per server with its start time in seconds."""
    lines = []
    with running((EmbeddedPostgres(open_folder / "postgres"),), lines.append):
        assert len(lines) == 1
        assert lines[0].startswith("Postgres ready in ")


def test_sigterm_handler_is_restored(open_folder):
    """The stack's SIGTERM handler is removed at the end."""
    before = signal.getsignal(SIGTERM)
    with pytest.raises(SystemExit, match="143"), running((), print):
        os.kill(os.getpid(), SIGTERM)
    assert signal.getsignal(SIGTERM) is before


def open_bucket(server, bucket):
    environment = server.client_environment()
    return S3Store(
        bucket,
        endpoint=environment["R2_ENDPOINT_URL"],
        access_key_id=environment["R2_ACCESS_KEY_ID"],
        secret_access_key=environment["R2_SECRET_ACCESS_KEY"],
        region="auto",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def test_object_round_trips(object_store):
    """An object is read back whole and in ranges, also one large enough to be kept on disk."""
    object_store.create_bucket("round-trip")
    store, body = open_bucket(object_store, "round-trip"), bytes(range(256)) * 4096
    obstore.put(store, "a/b", body)
    assert bytes(obstore.get(store, "a/b").bytes()) == body
    assert bytes(obstore.get_range(store, "a/b", start=1000, end=1010)) == body[1000:1010]
    assert [entry["path"] for page in obstore.list(store) for entry in page] == ["a/b"]


def test_object_is_created_once(object_store):
    """A second conditional write is refused, and the first bytes stay."""
    object_store.create_bucket("write-once")
    store = open_bucket(object_store, "write-once")
    obstore.put(store, "shard", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "shard", b"second", mode="create")
    assert bytes(obstore.get(store, "shard").bytes()) == b"first"


def test_killed_store_restarts_with_empty_buckets(open_folder):
    """Clients find the buckets at the same address, without objects."""
    with EmbeddedObjectStore(open_folder / "objects", buckets=["first"]) as server:
        server.create_bucket("second")
        obstore.put(open_bucket(server, "second"), "a", b"1")
        server.kill()
        server.start()
        for bucket in ("first", "second"):
            assert obstore.list(open_bucket(server, bucket)).collect() == []


def test_refused_bucket_is_an_error(object_store):
    """The error names the server and its response."""
    with pytest.raises(EmbeddedServiceFailed, match=r"Object store: PUT /X: status 400"):
        object_store.create_bucket("X")


def read_json(url):
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        return json.load(answer)


def test_server_has_the_production_settings(prefect_server):
    """One start checks health, home, telemetry, batch sizes, and the UI's API address."""
    assert read_json(f"{prefect_server.api_url}/health") is True

    settings = read_json(f"{prefect_server.api_url}/admin/settings")
    services = settings["server"]["services"]
    assert Path(settings["home"]) == prefect_server.base_dir
    assert settings["server"]["analytics_enabled"] is False
    assert services["task_run_recorder"]["batch_size"] == 200
    assert services["task_run_recorder"]["read_batch_size"] == 200
    assert services["task_run_recorder"]["flush_interval"] == 1.0
    assert services["event_persister"]["batch_size"] == 200
    assert services["event_persister"]["read_batch_size"] == 200
    assert services["triggers"]["read_batch_size"] == 200

    assert read_json(f"{prefect_server.ui_url}/ui-settings")["api_url"] == prefect_server.api_url


def test_server_can_keep_its_history_in_postgres(postgres, open_folder):
    """The driver in the URL is replaced by the one that Prefect needs."""
    url = postgres.create_database("prefect")
    with EmbeddedPrefect(open_folder / "prefect", database_url=url) as server:
        assert read_json(f"{server.api_url}/health") is True
        assert not (server.base_dir / "prefect.db").exists()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    postgres.drop_database("prefect")


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_second_account_gets_a_temporary_folder_of_its_own(shared, monkeypatch):
    """Prefect could not write into the folder of the first account."""
    (shared / RUNNER_FOLDER).mkdir()
    second = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: second)
    assert temporary_folder_variables() == {"TMPDIR": str(shared / f"vfleet-{second}")}
    assert (shared / f"vfleet-{second}").stat().st_mode & 0o777 == 0o700


def test_first_account_keeps_the_folder_of_the_machine(shared):
    """Also once Prefect has made its folder there."""
    assert temporary_folder_variables() == {}
    (shared / RUNNER_FOLDER).mkdir()
    assert temporary_folder_variables() == {}

"""The embedded Postgres keeps committed data through kills, and runs under any account, with binaries it can reach."""

import os
import shutil
import stat
import subprocess
from signal import SIGKILL

import psutil
import psycopg
import pytest

from validation.errors import BadInput
from validation.local import postgres
from validation.local.postgres import EmbeddedPostgres, choose_home, find_installation, reachable_installation
from validation.local.process import Account
from validation.local.service import EmbeddedServiceFailed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends Postgres another account")


pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def own_postgres(session_folder):
    """A server of its own, because the tests of this file kill it."""
    with EmbeddedPostgres(session_folder / "killable") as server:
        yield server


@pytest.fixture
def cluster(own_postgres):
    """The server, restarted if the previous test stopped it."""
    if own_postgres.pid is None:
        own_postgres.start()
    return own_postgres


def run_sql(url, statement):
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def commit_a_row(server):
    run_sql(server.libpq_url(), "DROP TABLE IF EXISTS kept; CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")


def kept_rows(server):
    return run_sql(server.libpq_url(), "SELECT n FROM kept")


def test_committed_rows_survive_sigkill_of_every_server_process(cluster):
    """SIGKILL of every server process loses no committed row."""
    commit_a_row(cluster)
    cluster.kill()
    cluster.start()
    assert kept_rows(cluster) == [(7,)]


def test_committed_rows_survive_sigkill_of_the_postmaster(cluster):
    """Server processes that outlive the postmaster do not keep a new server from starting."""
    commit_a_row(cluster)
    with psycopg.connect(cluster.libpq_url()):
        os.kill(cluster.pid, SIGKILL)
        cluster.stop()
        cluster.start()
    assert kept_rows(cluster) == [(7,)]


def test_later_run_on_the_same_folder_finds_the_rows(cluster):
    """The password and the data belong to the folder, not to the object."""
    commit_a_row(cluster)
    cluster.stop()
    with EmbeddedPostgres(cluster.base_dir) as later:
        assert kept_rows(later) == [(7,)]


def test_restart_keeps_the_address(cluster):
    """Clients find a restarted server at the same URL."""
    url = cluster.libpq_url()
    cluster.stop()
    cluster.start()
    assert run_sql(url, "SELECT 1") == [(1,)]


def test_no_process_runs_after_a_stop(cluster):
    """Neither the postmaster nor one of its processes is left."""
    family = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children(recursive=True)]
    cluster.stop()
    assert not [process for process in family if process.is_running()]
    assert cluster.pid is None


def test_login_needs_the_password(postgres):
    """Every account of the machine can reach the port, but not log in as superuser."""
    url = f"postgresql://postgres:guess@127.0.0.1:{postgres.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_database_is_a_copy_of_its_template(postgres):
    """Copies hold the template's rows and do not see each other's."""
    run_sql(postgres.create_database("model"), "CREATE TABLE built (n int)")
    one, two = (postgres.create_database(name, template="model") for name in ("one", "two"))
    run_sql(one, "INSERT INTO built VALUES (1)")
    assert run_sql(two, "SELECT count(*) FROM built") == [(0,)]
    for name in ("one", "two", "model"):
        postgres.drop_database(name)


def test_database_with_open_connections_can_be_dropped(postgres):
    """An open connection does not keep a database alive."""
    with psycopg.connect(postgres.create_database("busy")):
        postgres.drop_database("busy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.libpq_url("busy"))


def test_max_connections_can_be_set(open_folder):
    """A test with 100 clients can have 100 connections."""
    with EmbeddedPostgres(open_folder / "postgres", max_connections=150) as server:
        assert run_sql(server.libpq_url(), "SHOW max_connections") == [("150",)]


def test_stale_postmaster_pid_file_is_removed(cluster):
    """Process ids are reused, so a dead server's pid file may name any process, here the test."""
    commit_a_row(cluster)
    lock = cluster.data_dir / "postmaster.pid"
    contents = lock.read_text().splitlines()
    cluster.kill()
    lock.write_text("\n".join([str(os.getpid()), *contents[1:]]) + "\n")
    cluster.start()
    assert kept_rows(cluster) == [(7,)]


def test_incomplete_cluster_is_created_again(open_folder):
    """A run that was killed while it created the cluster does not block the next one."""
    server = EmbeddedPostgres(open_folder / "postgres")
    server.base_dir.mkdir()
    half = server.data_dir.with_name("pgdata.unfinished")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with server:
        assert run_sql(server.libpq_url(), "SELECT 1") == [(1,)]
    assert not half.exists()


def test_start_error_names_the_service_and_the_cause(cluster):
    """The error names the service, and its log excerpt names the cause."""
    cluster.stop()
    broken = cluster.data_dir / "postgresql.auto.conf"
    broken.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(
            EmbeddedServiceFailed, match=r"(?s)Postgres: it ended with status 1.*no_such_setting"
        ) as failed:
            cluster.start()
    finally:
        broken.write_text("")
    assert str(cluster.log_path) in str(failed.value)
    assert cluster.pid is None


def test_folder_in_use_is_refused(cluster):
    """A second server on one cluster would destroy it; the first one is not disturbed."""
    with pytest.raises(BadInput, match=f"in use: process {os.getpid()}"):
        EmbeddedPostgres(cluster.base_dir).start()
    assert run_sql(cluster.libpq_url(), "SELECT 1") == [(1,)]


def test_folder_in_use_is_not_erased(cluster):
    """`erase` refuses to delete the data of a running server."""
    commit_a_row(cluster)
    with pytest.raises(BadInput, match="in use"):
        EmbeddedPostgres(cluster.base_dir).erase()
    assert kept_rows(cluster) == [(7,)]


def test_erased_folder_is_empty(open_folder):
    """The next server on the folder starts with a new cluster."""
    with EmbeddedPostgres(open_folder / "postgres") as server:
        commit_a_row(server)
        server.erase()
    assert not server.base_dir.exists()


@as_root
def test_root_runs_postgres_as_the_account_nobody(cluster):
    """Postgres refuses to run as root; no new account is needed."""
    assert psutil.Process(cluster.pid).username() == "nobody"


@as_root
def test_closed_folder_keeps_its_permissions(open_folder):
    """Under a folder like /root the cluster lives elsewhere, and the folder's permissions are not changed."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres")
    try:
        with server:
            commit_a_row(server)
        with EmbeddedPostgres(closed / "postgres") as later:
            assert kept_rows(later) == [(7,)]
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert not server.data_dir.is_relative_to(closed)
    finally:
        server.erase()
    assert not server.data_dir.parent.exists()


@as_root
def test_cluster_elsewhere_is_deleted_with_its_folder(open_folder):
    """If the cluster lives elsewhere, deleting the folder still means a new cluster."""
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgres(closed / "postgres") as server:
        commit_a_row(server)
    shutil.rmtree(server.base_dir)
    fresh = EmbeddedPostgres(closed / "postgres")
    try:
        with fresh, pytest.raises(psycopg.errors.UndefinedTable):
            kept_rows(fresh)
    finally:
        fresh.erase()


NOBODY = Account(65534, 65534)

as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")


@as_root_only
def test_unreachable_binaries_are_copied_with_their_libraries(open_folder, monkeypatch):
    """With a virtual environment in a closed home, the copy runs under the other account."""
    closed, home = open_folder / "closed", open_folder / "home"
    closed.mkdir(mode=0o700)
    home.mkdir()
    wheel = find_installation().parent
    for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
        shutil.copytree(part, closed / part.name, symlinks=True)
    monkeypatch.setattr(postgres, "find_installation", lambda: closed / wheel.name / "pginstall")

    copied = reachable_installation(NOBODY, home)
    initdb = subprocess.run(
        [copied / "bin" / "initdb", "--version"], user=NOBODY.uid, group=NOBODY.gid, extra_groups=[], check=True
    )
    assert initdb.returncode == 0
    assert copied.is_relative_to(home)
    assert reachable_installation(NOBODY, home) == copied


def test_reachable_binaries_are_not_copied(open_folder):
    """An ordinary user runs the installed binaries."""
    assert reachable_installation(None, open_folder) == find_installation()
    assert not list(open_folder.iterdir())


def test_missing_binaries_name_the_extra(monkeypatch):
    """The error names the extra to install."""
    monkeypatch.setattr(postgres, "_WHEELS", ("no_such_wheel",))
    with pytest.raises(BadInput, match="install the extra `local`"):
        find_installation()


@as_root_only
def test_folder_of_another_user_is_refused(open_folder, monkeypatch):
    """The path elsewhere is predictable, so its owner is checked before data is written there."""
    closed, elsewhere = open_folder / "closed", open_folder / "elsewhere"
    closed.mkdir(mode=0o700)
    elsewhere.mkdir()
    monkeypatch.setattr(postgres, "_ELSEWHERE", elsewhere)
    home = choose_home(closed, NOBODY)
    os.chown(home, NOBODY.uid, NOBODY.gid)
    with pytest.raises(BadInput, match="is not ours"):
        choose_home(closed, NOBODY)

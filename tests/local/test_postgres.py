"""The embedded Postgres keeps what was committed, whoever kills it, wherever it has to live."""

import os
import shutil
import stat
from signal import SIGKILL

import psutil
import psycopg
import pytest

from validation.errors import BadInput
from validation.local.postgres import EmbeddedPostgres
from validation.local.service import LocalServiceFailed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends Postgres another account")


@pytest.fixture(scope="module")
def own_postgres(session_folder):
    """A server that the tests of this file may kill."""
    with EmbeddedPostgres(session_folder / "killable") as server:
        yield server


@pytest.fixture
def cluster(own_postgres):
    """That server, up again whatever the last test did to it."""
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
    """A commit is a promise that no kill breaks."""
    commit_a_row(cluster)
    cluster.kill()
    cluster.start()
    assert kept_rows(cluster) == [(7,)]


def test_committed_rows_survive_a_stranger_that_kills_the_postmaster(cluster):
    """Its orphans, which hold the shared memory a moment longer, do not keep a new server from starting."""
    commit_a_row(cluster)
    with psycopg.connect(cluster.libpq_url()):
        os.kill(cluster.pid, SIGKILL)
        cluster.restart()
    assert kept_rows(cluster) == [(7,)]


def test_a_later_run_on_the_same_folder_finds_its_rows(cluster):
    """The password and the files belong to the folder, not to the object that made them."""
    commit_a_row(cluster)
    cluster.stop()
    with EmbeddedPostgres(cluster.base_dir) as later:
        assert kept_rows(later) == [(7,)]


def test_a_restart_keeps_the_address(cluster):
    """Clients need no new settings to find a restarted server."""
    url = cluster.libpq_url()
    cluster.restart()
    assert run_sql(url, "SELECT 1") == [(1,)]


def test_nothing_runs_after_a_stop(cluster):
    """Neither the postmaster nor any process of its own is left."""
    family = [psutil.Process(cluster.pid), *psutil.Process(cluster.pid).children(recursive=True)]
    cluster.stop()
    assert not [process for process in family if process.is_running()]
    assert cluster.pid is None


def test_nobody_gets_in_without_the_password(postgres):
    """A port on loopback is open to every account of the machine; the superuser's rights are not."""
    url = f"postgresql://postgres:guess@127.0.0.1:{postgres.port}/postgres"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_a_database_is_a_copy_of_its_template(postgres):
    """What was built once in a template is there in each copy, and copies do not see each other."""
    run_sql(postgres.create_database("model"), "CREATE TABLE built (n int)")
    one, two = (postgres.create_database(name, template="model") for name in ("one", "two"))
    run_sql(one, "INSERT INTO built VALUES (1)")
    assert run_sql(two, "SELECT count(*) FROM built") == [(0,)]
    for name in ("one", "two", "model"):
        postgres.drop_database(name)


def test_a_database_can_be_dropped_while_somebody_is_connected(postgres):
    """A test that forgot a connection does not keep its database alive."""
    with psycopg.connect(postgres.create_database("busy")):
        postgres.drop_database("busy")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.libpq_url("busy"))


def test_max_connections_is_what_was_asked_for(open_folder):
    """A test of a hundred claimants can have its hundred connections."""
    with EmbeddedPostgres(open_folder / "postgres", max_connections=150) as server:
        assert run_sql(server.libpq_url(), "SHOW max_connections") == [("150",)]


def test_a_pid_file_that_names_another_process_is_no_obstacle(cluster):
    """Process numbers are used again: a dead server's may be anybody's, here our own."""
    commit_a_row(cluster)
    lock = cluster.data_dir / "postmaster.pid"
    contents = lock.read_text().splitlines()
    cluster.kill()
    lock.write_text("\n".join([str(os.getpid()), *contents[1:]]) + "\n")
    cluster.start()
    assert kept_rows(cluster) == [(7,)]


def test_a_half_made_cluster_is_made_again(open_folder):
    """A run that was killed while it made the cluster costs the next one nothing."""
    server = EmbeddedPostgres(open_folder / "postgres")
    server.base_dir.mkdir()
    half = server.data_dir.with_name("pgdata.unfinished")
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with server:
        assert run_sql(server.libpq_url(), "SELECT 1") == [(1,)]
    assert not half.exists()


def test_a_server_that_cannot_start_says_why(cluster):
    """The sentence names the service, and the log that it quotes names the cause."""
    cluster.stop()
    broken = cluster.data_dir / "postgresql.auto.conf"
    broken.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(
            LocalServiceFailed, match=r"(?s)Postgres: it ended with status 1.*no_such_setting"
        ) as failed:
            cluster.start()
    finally:
        broken.write_text("")
    assert str(cluster.log_path) in str(failed.value)
    assert cluster.pid is None


def test_a_folder_in_use_is_refused(cluster):
    """Two servers on one cluster would destroy it; the one that runs is not disturbed."""
    with pytest.raises(BadInput, match=f"in use: process {os.getpid()}"):
        EmbeddedPostgres(cluster.base_dir).start()
    assert run_sql(cluster.libpq_url(), "SELECT 1") == [(1,)]


def test_a_folder_in_use_is_not_erased(cluster):
    """Who wants to begin afresh does not pull the files from under a run that goes on."""
    commit_a_row(cluster)
    with pytest.raises(BadInput, match="in use"):
        EmbeddedPostgres(cluster.base_dir).erase()
    assert kept_rows(cluster) == [(7,)]


def test_what_is_erased_is_gone(open_folder):
    """The next server on that folder begins with nothing."""
    with EmbeddedPostgres(open_folder / "postgres") as server:
        commit_a_row(server)
        server.erase()
    assert not server.base_dir.exists()


@as_root
def test_root_lends_it_the_account_nobody(cluster):
    """Postgres refuses root, and nobody has to make an account for it."""
    assert psutil.Process(cluster.pid).username() == "nobody"


@as_root
def test_a_folder_closed_to_others_stays_closed(open_folder):
    """Under a home like /root the cluster lives elsewhere; no permission of the user's is touched."""
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
def test_a_deleted_folder_takes_its_cluster_along(open_folder):
    """Where the cluster lives elsewhere, deleting the folder still means to begin afresh."""
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

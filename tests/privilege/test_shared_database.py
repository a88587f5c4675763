"""What one stolen box tries against the database that all boxes and the pipeline share."""

import os

import psycopg
import pytest

from tests.support.ledger_helpers import claim, execute, fetch
from tests.support.logins import PASSWORD, login_url
from validation.domain import Progress
from validation.ledger.chunks import release_chunk, renew_chunk
from validation.ledger.maintenance import end_box_sessions
from validation.ledger.migrate import migrate
from validation.ledger.queries import read_view

pytestmark = pytest.mark.attack

SHARED = (
    "SELECT pg_advisory_lock(1)",  # ten thousand fill the table of locks: then no session does anything, anywhere
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT pg_logical_emit_message(false, 'x', 'x')",  # 50 MB per second of the log of changes
    "SELECT pg_terminate_backend(0)",
    "SELECT pg_cancel_backend(0)",
)
LEFT_BEHIND = ("SET DateStyle = 'SQL, DMY'", "SET client_encoding = 'LATIN1'", "SET search_path = open, pg_catalog")


@pytest.fixture
def boxes_login() -> str:
    return f"validation_worker_{os.getpid()}"


def refusals(engine, login: str) -> list[str]:
    """The statements that a login is refused."""
    refused = []
    address = login_url(engine.url.set(drivername="postgresql").render_as_string(hide_password=False), login)
    with psycopg.connect(address, autocommit=True) as connection:
        for statement in SHARED:
            try:
                connection.execute(statement)
            except psycopg.errors.InsufficientPrivilege:
                refused.append(statement)
            except psycopg.errors.Error:
                pass
    return refused


def test_box_reaches_no_function_that_harms_the_whole_database(ledger, boxes, boxes_login):
    """Where the migrating login is a superuser; the logins of other programs keep the functions."""
    other = f"pipeline_{os.getpid()}"
    execute(ledger, f"CREATE ROLE {other} LOGIN PASSWORD '{PASSWORD}'")
    migrate(ledger)
    assert refusals(ledger, boxes_login) == list(SHARED)
    assert refusals(ledger, other) == []
    execute(ledger, f"DROP OWNED BY {other}")
    execute(ledger, f"DROP ROLE {other}")


def test_sweep_ends_sessions_that_hold_an_advisory_lock(ledger, boxes, boxes_login, log_in):
    """On a hosted Postgres, where the function cannot be denied: the lock outlives its transaction."""
    execute(ledger, f"GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO {boxes_login}")
    execute(ledger, f"GRANT {boxes_login} TO validation_owner")
    control = log_in("validation_control")
    with boxes["ann"].connect() as thief:
        thief.exec_driver_sql("SELECT pg_advisory_lock(7)")
        thief.commit()
        assert end_box_sessions(control, idle_s=100, transaction_s=100) == 1
        assert fetch(ledger, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7") == []
        thief.invalidate()
    execute(ledger, f"REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint) FROM {boxes_login}")


def leave(engine, statement: str) -> None:
    """Make a setting of the session that the engine's next call will use, as behind a pooler."""
    with engine.connect() as connection:
        thief = connection.connection.driver_connection
        thief.rollback()
        thief.autocommit = True
        thief.execute(statement)
        thief.autocommit = False


def work(engine) -> None:
    held = claim(engine, worker_id="ann", size=2)
    renew_chunk(engine, held, Progress(segments=1))
    assert {video.language for video in held.videos} == {"हिन्दी"}
    assert release_chunk(engine, held.chunk_id, reason="test") == 2


@pytest.mark.parametrize("statement", LEFT_BEHIND)
def test_forms_of_values_that_a_client_left_stop_no_other_box(ledger, boxes, statement):
    """A pooler that tracks no settings gives the next client the form of dates and the encoding of the last."""
    execute(ledger, "UPDATE video_queue SET language = 'हिन्दी'")
    leave(boxes["ann"], statement)
    work(boxes["ann"])


def test_operator_of_a_stolen_box_reads_no_key(ledger, boxes, boxes_login):
    """Where boxes may create objects, an operator in the search path that a client left would run as the next box."""
    execute(ledger, "CREATE SCHEMA open")
    execute(ledger, f"GRANT CREATE, USAGE ON SCHEMA open TO {boxes_login}")
    execute(ledger, "CREATE TABLE open.stolen (key text)")
    execute(ledger, f"GRANT ALL ON open.stolen TO {boxes_login}")
    address = login_url(ledger.url.set(drivername="postgresql").render_as_string(hide_password=False), boxes_login)
    with psycopg.connect(address, autocommit=True) as thief:
        for number, symbol in enumerate((">=", "<=", "=", "<>")):
            name = f"open.steal_{number}"
            thief.execute(
                f"CREATE FUNCTION {name}(a int, b int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
                " INSERT INTO open.stolen VALUES (current_setting('vfleet.box_key', true)); RETURN true; END $$"
            )
            thief.execute(f"CREATE OPERATOR open.{symbol} (LEFTARG = int, RIGHTARG = int, FUNCTION = {name})")
    leave(boxes["ann"], "SET search_path = open, pg_catalog")
    held = claim(boxes["ann"], worker_id="ann", size=2)
    assert release_chunk(boxes["ann"], held.chunk_id, reason="test") == 2
    assert fetch(ledger, "SELECT * FROM open.stolen") == []
    execute(ledger, "DROP SCHEMA open CASCADE")


def test_limit_of_temporary_files_is_no_altered_login(ledger, boxes, boxes_login):
    """A superuser sets it for the boxes' login; a box can neither change nor reset it."""
    execute(ledger, f"ALTER ROLE {boxes_login} SET temp_file_limit = '64MB'")
    assert read_view(ledger, "altered_logins") == []
    address = login_url(ledger.url.set(drivername="postgresql").render_as_string(hide_password=False), boxes_login)
    with psycopg.connect(address, autocommit=True) as thief:
        for statement in ("SET temp_file_limit = -1", "ALTER ROLE CURRENT_USER SET temp_file_limit = -1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                thief.execute(statement)
        thief.execute("ALTER ROLE CURRENT_USER RESET ALL")
        thief.execute("ALTER ROLE CURRENT_USER SET work_mem = '64kB'")
    with psycopg.connect(address, autocommit=True) as thief, pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
        thief.execute("SELECT count(*) FROM (SELECT FROM generate_series(1, 9000000) g ORDER BY g OFFSET 0) q")
    (altered,) = read_view(ledger, "altered_logins")
    assert altered["settings"] == "work_mem=64kB"

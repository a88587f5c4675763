"""What each login reaches, for every object in the catalogue, so that new objects are covered too."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from tests.support.ledger_helpers import claim, execute, fetch, shard, statuses
from validation.domain import WorkerProfile
from validation.ledger.chunks import commit_chunk
from validation.ledger.migrate import migrate
from validation.ledger.workers import register_worker

ALLOWED = {
    "validation_worker": "register_worker claim_chunk renew_chunk heartbeat_worker commit_chunk release_chunk "
    "renumber_chunk drain_worker retire_worker schema_revision get_credential peek_videos peek_validated "
    "count_labels",
    "validation_control": "sweep_stale_claims requeue_stranded_videos mark_stale_workers requeue_videos "
    "find_unknown_videos find_unknown_chunks restore_shard withdraw_shard "
    "compact_shards purge_retired_shards peek_videos peek_validated count_labels sample_videos "
    "insert_canaries record_canary_result clear_quarantine "
    "retire_worker schema_revision audit fleet_set_target fleet_scale_to_zero fleet_acquire_lock "
    "fleet_release_lock fleet_acquire_search_quota fleet_request fleet_transition fleet_record_observation fleet_ban "
    "fleet_lift_ban fleet_record_credit fleet_record_tick fleet_transitions fleet_now fleet_spend issue_box_key "
    "store_credential undo_box settle_failure prune_box_decisions end_box_sessions lock_control_run "
    "has_other_owner",
    "validation_reader": "audit fleet_now fleet_spend has_other_owner",
}
SEES_VIEWS = {"validation_control", "validation_reader"}

FUNCTIONS = """
    SELECT p.proname, format('SELECT validation.%I(%s)', p.proname,
           (SELECT coalesce(string_agg('NULL::' || format_type(t, NULL), ', '), '') FROM unnest(p.proargtypes) t))
    FROM pg_proc p WHERE p.pronamespace = 'validation'::regnamespace
"""
RELATIONS = """
    SELECT c.oid::regclass::text, c.relkind = 'v' AND c.relnamespace = 'validation'::regnamespace,
           (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = 1)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
ATTEMPTS = (
    "SELECT * FROM {0} LIMIT 0",
    "INSERT INTO {0} DEFAULT VALUES",
    "UPDATE {0} SET {1} = NULL WHERE false",
    "DELETE FROM {0} WHERE false",
    "TRUNCATE {0}",
)
INTRUSIONS = (
    "CREATE TABLE public.mine (n int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION validation.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE worker_validators DISABLE ROW LEVEL SECURITY",
    "SET ROLE validation_owner",
    "SET SESSION AUTHORIZATION validation_owner",
    "GRANT validation_control TO CURRENT_USER",
    "CREATE ROLE mine",
    "ALTER ROLE validation_worker SET statement_timeout = 1",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "ALTER ROLE CURRENT_USER CONNECTION LIMIT 1",
    "ALTER ROLE CURRENT_USER VALID UNTIL 'epoch'",
    "CREATE EXTENSION dblink",
    "CREATE PUBLICATION mine",
    "LOCK TABLE worker_validators IN ACCESS SHARE MODE",
    "SELECT FROM validation.worker_locks FOR UPDATE",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/tmp/mine'",
)
ALTERS_ITSELF = (
    "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
    "ALTER ROLE CURRENT_USER SET statement_timeout = 1",
)
"""What Postgres lets every login do to itself. `vfleet doctor` and the alert box-login-altered tell of it."""


REFUSED = {"42501", "55000", "42809"}
"""For want of privilege; a view that takes no writes, and no TRUNCATE by any login."""


def attempt(engine: Engine, statement: str) -> bool:
    """Whether the database let it be tried. Every other end than a refusal counts as yes."""
    with engine.connect() as connection:
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            return getattr(getattr(error, "orig", None), "sqlstate", None) not in REFUSED
        finally:
            connection.rollback()
    return True


@pytest.mark.parametrize("role", ALLOWED)
def test_login_executes_its_functions_and_no_other(ledger, log_in, role):
    """Each existing function is called with a real login, so that later functions are covered too."""
    engine = log_in(role)
    callable_ = {name for name, call in fetch(ledger, FUNCTIONS) if attempt(engine, call)}
    assert callable_ == set(ALLOWED[role].split())


@pytest.mark.parametrize("role", ALLOWED)
def test_login_reads_views_at_most(ledger, log_in, role):
    """No login reads or writes a table except through functions, and a box's login reads no view either."""
    engine = log_in(role)
    relations = fetch(ledger, RELATIONS)
    done = {
        (name, index)
        for name, _, column in relations
        for index, statement in enumerate(ATTEMPTS)
        if attempt(engine, statement.format(name, column))
    }
    views = {name for name, is_view, _ in relations if is_view}
    assert len(views) >= 10
    assert done == ({(view, 0) for view in views} if role in SEES_VIEWS else set())


@pytest.mark.parametrize("role", ALLOWED)
def test_login_cannot_change_the_database(log_in, role):
    """It creates nothing, grants itself nothing, and reaches no file or program."""
    engine = log_in(role)
    assert [statement for statement in INTRUSIONS if attempt(engine, statement)] == []


@pytest.mark.parametrize("role", ALLOWED)
def test_login_alters_itself_and_no_other(log_in, role):
    """Postgres cannot forbid the first, so it is monitored; should a later Postgres forbid it, this test says so."""
    engine, other = log_in(role), log_in("validation_reader" if role == "validation_worker" else "validation_worker")
    assert [statement for statement in ALTERS_ITSELF if not attempt(engine, statement)] == []
    theirs = [statement.replace("CURRENT_USER", f'"{other.url.username}"') for statement in ALTERS_ITSELF]
    assert [statement for statement in theirs if attempt(engine, statement)] == []


def test_no_login_creates_temporary_tables(hosted):
    """They fill the disk. The database's owner revoked the right for all others and keeps it."""
    owner, guest = hosted
    assert not attempt(guest, "CREATE TEMPORARY TABLE mine (n int)")
    assert attempt(owner, "CREATE TEMPORARY TABLE mine (n int)")


def test_public_api_reaches_nothing_of_the_ledger(hosted):
    """The public API of a hosted Postgres is granted every new table, and reaches none of the ledger's."""
    owner, guest = hosted
    reached = [
        statement.format(name, column)
        for name, _, column in fetch(owner, RELATIONS)
        if name != "video_queue"  # the pipeline's own, and its owner's to protect
        for statement in ATTEMPTS
        if attempt(guest, statement.format(name, column))
    ]
    reached += [name for name, call in fetch(owner, FUNCTIONS) if attempt(guest, call)]
    assert reached == []


def test_every_table_has_row_level_security_and_one_owner(hosted):
    """Each table belongs to the role that the functions run as."""
    owner, _ = hosted
    tables = fetch(
        owner,
        "SELECT c.relname, c.relrowsecurity, c.relowner = 'validation_owner'::regrole FROM pg_class c "
        "WHERE c.relkind = 'r' AND c.relnamespace IN ('public'::regnamespace, 'validation'::regnamespace) "
        "AND c.relname NOT IN ('video_queue', 'alembic_version')",
    )
    assert len(tables) >= 8
    assert [name for name, is_closed, is_owned in tables if not (is_closed and is_owned)] == []


def test_function_runs_as_the_owner_with_a_fixed_search_path(hosted):
    """No caller's search path, and no schema in which others may create objects, leads a function to other objects.

    The exceptions are `is_language` and `fits_json`, which the planner inlines into functions of the owner and no role
    may execute.
    """
    owner, _ = hosted
    loose = fetch(
        owner,
        "SELECT proname FROM pg_proc WHERE pronamespace = 'validation'::regnamespace "
        "AND proname NOT IN ('is_language', 'fits_json') AND (NOT prosecdef "
        "OR proowner <> 'validation_owner'::regrole "
        "OR NOT coalesce(proconfig, '{}') @> ARRAY['search_path=validation, pg_temp'])",
    )
    assert loose == []


HIJACK = """
    GRANT CREATE ON SCHEMA public TO PUBLIC;
    SET ROLE {login};
    CREATE FUNCTION public.hijacked(text, text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
    CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.hijacked);
    CREATE FUNCTION public.hashtext(text) RETURNS integer LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
    CREATE FUNCTION public.check_box_key(text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
    RESET ROLE;
"""


@pytest.mark.attack
def test_objects_in_a_schema_open_to_all_run_with_no_other_rights(ledger, seed, log_in):
    """Where PUBLIC may create in schema public, an operator of the box's own is used by no function of the ledger."""
    seed(2)
    box = log_in("validation_worker")
    with ledger.begin() as connection:
        connection.connection.cursor().execute(HIJACK.format(login=box.url.username))
    try:
        register_worker(box, WorkerProfile("ann", config={"instance": "ann-1"}))
        held = claim(box, worker_id="ann", size=1)
        done = {held.videos[0].video_id: 1}
        commit_chunk(box, held.chunk_id, shard=shard(of=held), validated=done, failed=[], max_attempts=3)
    finally:
        execute(ledger, f"DROP OWNED BY {box.url.username}")


@pytest.mark.attack
def test_migration_closes_the_schema_of_the_functions(ledger, log_in):
    """A role that may create in it could place objects that the functions use."""
    box = log_in("validation_worker")
    execute(ledger, f"GRANT CREATE ON SCHEMA validation TO {box.url.username}, PUBLIC")
    migrate(ledger)
    assert not attempt(box, "CREATE FUNCTION validation.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'")


@pytest.mark.parametrize("change", ["SET status = 'lost'", "SET language = 'xx'", "SET video_id = 'other'"])
def test_functions_cannot_change_the_pipelines_columns(ledger, change):
    """Not even a wrong function could change what belongs to the transcription pipeline."""
    with ledger.connect() as connection:
        connection.exec_driver_sql("SET ROLE validation_owner")
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.exec_driver_sql(f"UPDATE video_queue {change}")
        connection.rollback()
        connection.exec_driver_sql("RESET ROLE")


def test_hosted_database_serves_a_chunk(hosted):
    """Migrated twice by an owner that is no superuser, with row-level security on its queue."""
    owner, _ = hosted
    execute(owner, "INSERT INTO video_queue (video_id, status) VALUES ('a', 'done'), ('b', 'done')")
    with owner.begin() as connection:
        connection.execute(text("SELECT 1"))
    register_worker(owner, WorkerProfile("ann", config={"instance": "ann-1"}))
    held = claim(owner, worker_id="ann", size=2)
    commit_chunk(owner, held.chunk_id, shard=shard(of=held), validated={"a": 2, "b": 1}, failed=[], max_attempts=3)
    assert statuses(owner) == {"a": "validated", "b": "validated"}

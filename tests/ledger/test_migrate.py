"""Migrations: safe on a live queue, resumable, and refused on an unknown schema."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.ledger_helpers import engine_for, execute, fetch
from validation.ledger.migrate import (
    SchemaMismatch,
    find_invalid_indexes,
    migrate,
    newest_migration,
    render_migration,
    require_newest_migration,
)
from validation.ledger.rpc import LedgerBusy

SHAPE = """
    SELECT table_schema, table_name, column_name, data_type, column_default, is_nullable
    FROM information_schema.columns WHERE table_schema IN ('public', 'validation') ORDER BY 1, 2, 3
"""
ROUTINES = "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'validation'::regnamespace ORDER BY 1"
INDEXES = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname IN ('public', 'validation') ORDER BY 1"


@pytest.fixture
def empty(postgres):
    engine = engine_for(postgres.create_database("empty"))
    yield engine
    engine.dispose()
    postgres.drop_database("empty")


def test_migrating_twice_changes_nothing(ledger):
    """The second run finds nothing to do."""
    before = [fetch(ledger, query) for query in (SHAPE, ROUTINES, INDEXES)]
    assert migrate(ledger) == newest_migration()
    assert [fetch(ledger, query) for query in (SHAPE, ROUTINES, INDEXES)] == before


def test_migration_keeps_rows_and_columns_of_a_live_queue(empty):
    """A queue that the pipeline made is extended, never replaced; every row starts pending."""
    execute(
        empty,
        "CREATE TABLE video_queue (video_id text PRIMARY KEY, status text, language text, segment_count int, claimed_by text, claimed_at timestamptz, url text)",
    )
    execute(
        empty,
        "INSERT INTO video_queue SELECT 'v' || n, 'done', 'hi', 3, 'transcriber', now(), 'u' FROM generate_series(1, 1000) n",
    )
    migrate(empty)
    assert fetch(empty, "SELECT validation_status, url, count(*) FROM video_queue GROUP BY 1, 2") == [
        ("pending", "u", 1000)
    ]


def test_migration_that_was_cut_off_is_resumed(empty):
    """Columns that exist already, as after a crash between two statements, do not stop a second try."""
    execute(
        empty,
        "CREATE TABLE video_queue (video_id text PRIMARY KEY, status text, language text, segment_count int, claimed_by text, claimed_at timestamptz, validation_status text NOT NULL DEFAULT 'pending')",
    )
    migrate(empty)
    require_newest_migration(empty)


def test_dry_run_prints_the_whole_migration(empty, ledger):
    """Executing what `--dry-run` prints gives the same database as migrating."""
    with empty.connect() as connection:
        driver = connection.connection.driver_connection
        driver.autocommit = True
        for statement in split_script(render_migration()):
            driver.execute(statement)
    for query in (SHAPE, ROUTINES, INDEXES):
        assert fetch(empty, query) == fetch(ledger, query)
    require_newest_migration(empty)


def split_script(script: str) -> list[str]:
    """Cut a script as psql does: at semicolons outside dollar quotes and comments."""
    statements, current, quoted = [], [], False
    for line in script.splitlines():
        code = line.split("--")[0]
        current.append(line)
        quoted ^= code.count("$$") % 2 == 1
        if code.rstrip().endswith(";") and not quoted:
            statements.append("\n".join(current))
            current = []
    return statements


def test_database_at_another_migration_is_refused(ledger, empty):
    """The error names both migrations."""
    execute(ledger, "UPDATE validation.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=rf"{newest_migration()}.*9999"):
        require_newest_migration(ledger)
    with pytest.raises(SchemaMismatch, match="not migrated"):
        require_newest_migration(empty)


def test_no_statement_is_prepared(ledger, seed):
    """Behind a transaction pooler a prepared statement would belong to another client."""
    with ledger.connect() as connection:
        for _ in range(10):
            connection.exec_driver_sql("SELECT count(*) FROM video_queue")
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0


def test_index_whose_build_was_cut_off_is_rebuilt(ledger):
    """`CREATE INDEX IF NOT EXISTS` passes over it: a claim would take fifty times as long for ever."""
    leftover = "video_queue_held_ccnew"
    execute(ledger, f"CREATE INDEX {leftover} ON video_queue (video_id)")
    for name in ("video_queue_claimable", leftover):
        execute(ledger, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(:name AS regclass)", name=name)
    execute(ledger, "CREATE INDEX of_the_pipeline ON video_queue (language)")
    execute(ledger, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'of_the_pipeline'::regclass")
    assert find_invalid_indexes(ledger) == ["video_queue_claimable", leftover]
    migrate(ledger)
    assert find_invalid_indexes(ledger) == []
    assert fetch(ledger, "SELECT to_regclass(:name)", name=leftover) == [(None,)]
    assert fetch(ledger, "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid") == [
        ("of_the_pipeline",)
    ]


def test_migration_waits_seconds_for_a_lock_and_names_its_holder(connect):
    """While it waits, the pipeline's own statements queue up behind it: a dump must not stop them for long."""
    ledger, dump, pipeline = connect(), connect(), connect()
    execute(ledger, "DROP POLICY validation_works ON video_queue")
    with dump.begin() as held:
        ((pid,),) = held.exec_driver_sql(
            "SELECT pg_backend_pid() FROM (SELECT count(*) FROM video_queue) counted"
        ).all()
        with ThreadPoolExecutor() as pool:
            migrating = pool.submit(migrate, ledger)
            started_s = time.monotonic()
            while not migrating.done():
                fetch(pipeline, "SELECT count(*) FROM video_queue")
            assert time.monotonic() - started_s < 10
        with pytest.raises(
            LedgerBusy, match=rf"waits for video_queue, locked by session {pid} \(login postgres, vfleet"
        ):
            migrating.result()
    migrate(ledger)

import pytest

from tests.support.ledger_helpers import engine_for, execute, fetch
from validation.ledger.migrate import SchemaMismatch, known_revision, migrate, render_migration, require_revision

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
    assert migrate(ledger) == known_revision()
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
    require_revision(empty)


def test_dry_run_prints_the_whole_migration(empty, ledger):
    """Executing what `--dry-run` prints gives the same database as migrating."""
    with empty.connect() as connection:
        driver = connection.connection.driver_connection
        driver.autocommit = True
        for statement in split_script(render_migration()):
            driver.execute(statement)
    for query in (SHAPE, ROUTINES, INDEXES):
        assert fetch(empty, query) == fetch(ledger, query)
    require_revision(empty)


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
    with pytest.raises(SchemaMismatch, match=rf"{known_revision()}.*9999"):
        require_revision(ledger)
    with pytest.raises(SchemaMismatch, match="not migrated"):
        require_revision(empty)


def test_no_statement_is_prepared(ledger, seed):
    """Behind a transaction pooler a prepared statement would belong to another client."""
    with ledger.connect() as connection:
        for _ in range(10):
            connection.exec_driver_sql("SELECT count(*) FROM video_queue")
        assert connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar() == 0

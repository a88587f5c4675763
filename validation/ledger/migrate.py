"""Migrate a database to the schema of this code: numbered migrations, then functions, views and roles.

Each file ``sql/migrations/NNNN_*.sql`` runs once, in order. The table ``validation.alembic_version`` stores the number
of the last migration; release 0.1 created the table with this name and layout. Each run replaces the functions and
views of ``sql/functions`` and ``sql/views``, and executes ``sql/roles.sql``.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from validation.errors import BadInput
from validation.ledger.queue_table import require_queue
from validation.ledger.rpc import call_function, translate_error

PERIOD_S = 0.5
"""Seconds between two looks of a `LockWatch`."""
LOCK_HOLDER = Path(__file__).resolve().parents[2] / "sql" / "migrate" / "lock_holder.sql"


class LockWatch:
    """A context manager that reads twice per second, on its own connection, which session blocks a watched session.

    The watched session is identified by ``pid``, or by the text of its statement if a pooler hides the pid.
    """

    def __init__(self, engine: Engine, *, statement: str | None = None) -> None:
        self._engine, self._statement = engine, statement
        self.pid: int | None = None
        self._holder = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock-watch", daemon=True)

    def describe(self) -> str:
        """Describe the session that last blocked the watched session, as the end of a sentence; empty if none did."""
        return self._holder

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_S):
            try:
                self._look()
            except SQLAlchemyError:  # the migration itself reports errors of the database
                continue

    def _look(self) -> None:
        """Read once which session blocks the watched session, and keep its description."""
        given = {"pid": self.pid, "statement": self._statement}
        with self._engine.connect() as connection:
            for row in connection.exec_driver_sql(LOCK_HOLDER.read_text(encoding="utf-8"), given):
                program = f", {row.application}" if row.application else ""
                since = f", in a transaction for {row.held_s} s" if row.held_s is not None else ""
                self._holder = (
                    f" waits for {row.locked}, locked by session {row.pid} (login {row.login}{program}{since})"
                )


SQL = Path(__file__).resolve().parents[2] / "sql"
LOCK_TIMEOUT = "3s"
"""Maximum time that a statement waits for a lock. Statements of other sessions queue behind a waiting statement."""
STATEMENT_TIMEOUT = "10min"
"""Maximum time of a statement in a transaction: longer than any statement takes on 500,000 videos.

Statements outside a transaction, such as CREATE INDEX CONCURRENTLY, have no limit."""

_AUTOCOMMIT = "-- autocommit:"
"""The first words of a migration whose statements cannot run inside a transaction."""
_READ_VERSION = "SELECT version_num FROM validation.alembic_version"
_TRANSACTION_SETTINGS = f"""
SET LOCAL lock_timeout = '{LOCK_TIMEOUT}';
SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}';
SET LOCAL search_path = public, pg_temp;
"""
_VIEW_NAME = re.compile(r"\bvalidation\.(\w+)")
_INDEX_NAME = re.compile(r"^CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?IF NOT EXISTS (\w+)", re.MULTILINE)


class SchemaMismatch(BadInput):
    """The newest migration of the database is not the newest migration of this code."""

    def __init__(self, code: str, database: str | None) -> None:
        self.code, self.database = code, database
        found = f"at migration {database}" if database else "not migrated at all"
        super().__init__(
            f"this code knows migration {code}, the database is {found}: run `vfleet migrate`, or update the code"
        )


def migrate(engine: Engine) -> str:
    """Execute the migrations that the database lacks, and replace functions, views and roles. Safe to repeat.

    Returns the number of the newest migration, for example ``0020``.

    Raises:
        QueueUnfit: the table `video_queue` lacks what the ledger needs. Nothing was changed.
        LedgerBusy: another session, which the message describes, locks a table. Migrate again later.
        BadInput: another session is building an index of the ledger.
        SchemaMismatch: the database was migrated by newer code.
    """
    require_queue(engine)
    current = _prepare(engine)
    if current and current > newest_migration():
        raise SchemaMismatch(newest_migration(), current)
    for path in _migrations():
        if _number(path) > current:
            _apply(engine, path)
    _rebuild_invalid_indexes(engine)
    with _transaction(engine, "functions, views and roles") as connection:
        for source in _replaceable():
            _execute(connection, source.read_text(encoding="utf-8"))
    return newest_migration()


def render_migration() -> str:
    """Return all SQL of ``migrate`` for a database without the ledger. Needs no connection."""
    parts = [_text("version_table")]
    for path in _migrations():
        sql, version = path.read_text(encoding="utf-8"), _set_version(_number(path))
        parts += [sql, "BEGIN;", version, "COMMIT;"] if _is_autocommit(sql) else ["BEGIN;", sql, version, "COMMIT;"]
    return "\n".join([*parts, "BEGIN;", *(source.read_text(encoding="utf-8") for source in _replaceable()), "COMMIT;"])


def newest_migration() -> str:
    """Return the number of the newest migration of this code."""
    return _number(_migrations()[-1])


def require_newest_migration(engine: Engine) -> None:
    """Check that the database has the newest migration of this code.

    Raises:
        SchemaMismatch: the migrations differ; the message contains both numbers.
    """
    if (found := database_migration(engine)) != newest_migration():
        raise SchemaMismatch(newest_migration(), found)


def database_migration(engine: Engine) -> str | None:
    """Read the number of the last migration of the database; None if the database was never migrated."""
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("SELECT to_regprocedure('validation.schema_revision()')").scalar() is None:
                return None
    except DBAPIError as error:
        raise translate_error(error, engine, "schema_revision", {}) from error
    (row,) = call_function(engine, "schema_revision")
    return str(row[0])


def find_invalid_indexes(engine: Engine) -> list[str]:
    """Return the names of invalid indexes of the ledger: a build was interrupted or still runs.

    ``migrate`` rebuilds them if no build runs, and drops the copies that an interrupted rebuild has left.
    """
    try:
        with engine.connect() as connection:
            return [row[0] for row in connection.exec_driver_sql(_text("invalid_indexes"), {"names": _index_names()})]
    except DBAPIError as error:
        raise translate_error(error, engine, "find_invalid_indexes", {}) from error


def _prepare(engine: Engine) -> str:
    """Create the version table if it is missing. Returns the number of the last migration; empty for a new database."""
    with _transaction(engine, "the table of the version") as connection:
        _execute(connection, _text("version_table"))
        return str(connection.exec_driver_sql(_READ_VERSION).scalar() or "")


def _apply(engine: Engine, path: Path) -> None:
    """Execute one migration and record its number: in one transaction, unless the migration is marked autocommit."""
    sql, version = path.read_text(encoding="utf-8"), _set_version(_number(path))
    if not _is_autocommit(sql):
        with _transaction(engine, path.name) as connection:
            _execute(connection, "LOCK TABLE validation.alembic_version IN EXCLUSIVE MODE")
            if str(connection.exec_driver_sql(_READ_VERSION).scalar() or "") < _number(path):  # else: another migrate
                _execute(connection, sql + version)
        return
    for statement in sql.split(";\n"):
        if statement.strip():
            _execute_alone(engine, path.name, statement)
    with _transaction(engine, path.name) as connection:
        _execute(connection, version)


def _rebuild_invalid_indexes(engine: Engine) -> None:
    """Rebuild indexes whose build was interrupted, because ``CREATE INDEX IF NOT EXISTS`` skips them.

    The copies that an interrupted REINDEX CONCURRENTLY has left are dropped.

    Raises:
        BadInput: another session is building an index.
    """
    with _transaction(engine, "invalid indexes") as connection:
        found = connection.exec_driver_sql(_text("invalid_indexes"), {"names": _index_names()}).all()
    for qualified, name, is_being_built in found:
        if is_being_built:
            raise BadInput(f"index {qualified} is being built by another session: wait for it, then migrate again")
        verb = "REINDEX INDEX CONCURRENTLY" if name in _index_names() else "DROP INDEX CONCURRENTLY"
        _execute_alone(engine, f"index {qualified}", f"{verb} {qualified}")


@contextmanager
def _transaction(engine: Engine, what: str) -> Iterator[Connection]:
    """Open a transaction with timeouts for locks and statements.

    The error of a failed statement contains ``what``, and the session that blocked the statement, if any.
    """
    watch = LockWatch(engine)
    try:
        with watch, engine.begin() as connection:
            _execute(connection, _TRANSACTION_SETTINGS)
            watch.pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            yield connection
    except DBAPIError as error:
        raise translate_error(error, engine, f"migrate ({what}{watch.describe()})", {}) from error


def _execute_alone(engine: Engine, what: str, statement: str) -> None:
    """Execute a statement that cannot run inside a transaction, such as CREATE INDEX CONCURRENTLY.

    Such a statement blocks no reader and no writer while it waits for a lock.
    """
    watch = LockWatch(engine, statement=statement)
    try:
        with watch, engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            _execute(connection, statement)
    except DBAPIError as error:
        raise translate_error(error, engine, f"migrate ({what}{watch.describe()})", {}) from error


def _execute(connection: Connection, sql: str) -> None:
    # no_parameters: a % in PL/pgSQL is not a placeholder of psycopg.
    connection.execution_options(no_parameters=True).exec_driver_sql(sql)


def _text(name: str) -> str:
    """Read the statement ``sql/migrate/<name>.sql``."""
    return (SQL / "migrate" / f"{name}.sql").read_text(encoding="utf-8")


def _set_version(revision: str) -> str:
    """Return the statement that records the number of the last migration."""
    return _text("set_version").replace("{revision}", revision)


def _migrations() -> list[Path]:
    """Return the files of all migrations, in the order of their numbers."""
    return sorted((SQL / "migrations").glob("[0-9]*.sql"))


def _number(path: Path) -> str:
    """Return the number of a migration: the first four digits of its file name."""
    return path.name[:4]


def _is_autocommit(sql: str) -> bool:
    return sql.startswith(_AUTOCOMMIT)


def _index_names() -> list[str]:
    """Return the names of the indexes that migrations create."""
    return [name for path in _migrations() for name in _INDEX_NAME.findall(path.read_text(encoding="utf-8"))]


def _replaceable() -> Iterator[Path]:
    """Yield the SQL files that each run executes: functions, views and roles."""
    yield from sorted((SQL / "functions").glob("*.sql"))
    yield from _views_in_order()
    yield SQL / "roles.sql"


def _views_in_order() -> Iterator[Path]:
    """Yield the SQL files of the views, each view after the views that it reads."""
    files = {path.stem: path for path in sorted((SQL / "views").glob("*.sql"))}
    reads = {
        name: set(_VIEW_NAME.findall(path.read_text(encoding="utf-8"))) & files.keys() - {name}
        for name, path in files.items()
    }
    for name in TopologicalSorter(reads).static_order():
        yield files[name]

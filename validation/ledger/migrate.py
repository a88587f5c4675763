"""Bring a database to the ledger that this code knows: numbered migrations, then functions, views and roles."""

import io
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from validation.errors import BadInput
from validation.ledger.rpc import call_function, translate_error

SQL = Path(__file__).resolve().parents[2] / "sql"
_VIEW_NAME = re.compile(r"\bvalidation\.(\w+)")


class SchemaMismatch(BadInput):
    """The database does not stand at the migration that this code knows."""

    def __init__(self, code: str, database: str | None) -> None:
        self.code, self.database = code, database
        stands = f"at migration {database}" if database else "not migrated at all"
        super().__init__(
            f"this code knows migration {code}, the database is {stands}: run `vfleet migrate`, or update the code"
        )


def migrate(engine: Engine) -> str:
    """Migrate to the newest revision and replace functions, views and grants. Safe to repeat; returns the revision."""
    try:
        with engine.connect() as connection:
            command.upgrade(_configure(connection=connection), "head")
        with engine.begin() as connection:
            for source in _replaceable():
                _execute_script(connection, source.read_text())
    except DBAPIError as error:
        raise translate_error(error, engine, "migrate", {}) from error
    return known_revision()


def render_migration() -> str:
    """All the SQL of ``migrate``, for a database that has none of it yet. Needs no database."""
    out = io.StringIO()
    command.upgrade(_configure(output=out), "head", sql=True)
    return "\n".join([out.getvalue(), "BEGIN;", *(source.read_text() for source in _replaceable()), "COMMIT;"])


def known_revision() -> str:
    """The newest migration that this code knows."""
    return ScriptDirectory.from_config(_configure()).get_current_head() or ""


def require_revision(engine: Engine) -> None:
    """Refuse to work on a database whose migration is not the one that this code knows.

    Raises:
        SchemaMismatch: naming both.
    """
    if (found := database_revision(engine)) != known_revision():
        raise SchemaMismatch(known_revision(), found)


def database_revision(engine: Engine) -> str | None:
    """The migration at which the database stands, None if it has none."""
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("SELECT to_regprocedure('validation.schema_revision()')").scalar() is None:
                return None
    except DBAPIError as error:
        raise translate_error(error, engine, "schema_revision", {}) from error
    (row,) = call_function(engine, "schema_revision")
    return str(row[0])


def run_file(name: str) -> None:
    """Execute one file of sql/migrations as the body of a revision."""
    from alembic import op  # noqa: PLC0415 - exists only while a migration runs

    sql = (SQL / "migrations" / name).read_text()
    if not sql.startswith("-- autocommit:"):
        op.execute(sql)
        return
    with op.get_context().autocommit_block():
        for statement in sql.split(";\n"):
            if statement.strip():
                op.execute(statement)


def _execute_script(connection: Connection, sql: str) -> None:
    # Straight to the driver, without parameters: a % in PL/pgSQL is not a placeholder.
    cursor = connection.connection.cursor()
    cursor.execute(sql)
    cursor.close()


def _replaceable() -> Iterator[Path]:
    yield from sorted((SQL / "functions").glob("*.sql"))
    yield from _views_in_order()
    yield SQL / "roles.sql"


def _views_in_order() -> Iterator[Path]:
    """The files of the views, each after those of the views that it reads."""
    files = {path.stem: path for path in sorted((SQL / "views").glob("*.sql"))}
    reads = {name: set(_VIEW_NAME.findall(path.read_text())) & files.keys() - {name} for name, path in files.items()}
    for name in TopologicalSorter(reads).static_order():
        yield files[name]


def _configure(*, connection: Connection | None = None, output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "revisions"))
    config.attributes["connection"] = connection
    return config

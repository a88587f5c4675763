"""Fixtures: logins with one role each, on a ledger of the test's own and on a hosted Postgres."""

import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url

from tests.support.ledger_helpers import CONNECT_ARGS, execute, fetch
from tests.support.logins import PASSWORD, login_url
from validation.ledger.boxes import issue_box_key
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate


@pytest.fixture
def log_in(ledger) -> Iterator[Callable[..., Engine]]:
    """Log in with one role and nothing else, as a machine with `box_key` or without."""
    logins: dict[str, str] = {}
    opened: list[Engine] = []

    def enter(role: str, box_key: str | None = None) -> Engine:
        if role not in logins:
            logins[role] = f"{role}_{os.getpid()}"
            execute(ledger, f"CREATE ROLE {logins[role]} LOGIN PASSWORD '{PASSWORD}' IN ROLE {role}")
        url = login_url(ledger.url.render_as_string(hide_password=False), logins[role])
        opened.append(open_engine(url, SecretStr(box_key) if box_key else None))
        return opened[-1]

    yield enter
    for engine in opened:
        engine.dispose()
    for name in logins.values():
        execute(ledger, f"DROP ROLE {name}")


@pytest.fixture
def boxes(ledger, seed, log_in) -> dict[str, Engine]:
    """Two boxes under one login, each with its key and its name: ann and bob."""
    seed(40)
    return {name: log_in("validation_worker", issue_box_key(ledger, name)) for name in ("ann", "bob")}


HOST_SETUP = """
    CREATE ROLE {admin} LOGIN CREATEROLE PASSWORD '{password}';
    CREATE ROLE {guest} LOGIN PASSWORD '{password}';
    GRANT anon TO {guest};
    ALTER DATABASE {database} OWNER TO {admin};
    ALTER SCHEMA public OWNER TO {admin};
    GRANT ALL ON SCHEMA public TO anon;
    ALTER DEFAULT PRIVILEGES FOR ROLE {admin} IN SCHEMA public GRANT ALL ON TABLES TO anon;
    ALTER DEFAULT PRIVILEGES FOR ROLE {admin} IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon;
    SET ROLE {admin};
    CREATE TABLE video_queue (video_id text PRIMARY KEY, status text, language text, segment_count int,
                              claimed_by text, claimed_at timestamptz);
    ALTER TABLE video_queue ENABLE ROW LEVEL SECURITY;
    RESET ROLE;
"""
"""As Supabase sets a database up: its owner is no superuser, and its public API's role is granted every new table."""


@pytest.fixture(scope="module")
def hosted(postgres, migrated_template) -> Iterator[tuple[Engine, Engine]]:
    """The owner's engine and the public API's, on a hosted database that was migrated by its owner, twice."""
    database, admin, guest = (f"{name}_{os.getpid()}" for name in ("hosted", "admin", "guest"))
    superuser = create_engine(
        make_url(postgres.create_database(database)).set(drivername="postgresql+psycopg"),
        connect_args=dict(CONNECT_ARGS),
    )
    execute(superuser, "CREATE ROLE anon NOLOGIN")
    # The roles are of the whole cluster: as if this database were the first to be migrated, its owner may grant them.
    owned = ("validation_owner", "validation_control", "validation_worker", "validation_reader")
    with superuser.begin() as connection:
        script = HOST_SETUP.format(admin=admin, guest=guest, database=database, password=PASSWORD)
        connection.connection.driver_connection.execute(script)
        for role in owned:
            connection.exec_driver_sql(f"GRANT {role} TO {admin} WITH ADMIN OPTION")
    url = superuser.url.render_as_string(hide_password=False)
    engines = open_engine(login_url(url, admin)), open_engine(login_url(url, guest))
    migrate(engines[0])
    migrate(engines[0])
    assert fetch(superuser, "SELECT rolsuper FROM pg_roles WHERE rolname = :name", name=admin) == [(False,)]
    yield engines
    for engine in engines:
        engine.dispose()
    superuser.dispose()
    postgres.drop_database(database)
    with psycopg.connect(postgres.libpq_url()) as connection:
        connection.execute(f"DROP ROLE {guest}, {admin}, anon")

"""Connections to Postgres: one engine per database address and box key, which works behind a transaction pooler."""

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import certifi
from psycopg import IsolationLevel
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from validation.errors import BadInput

# A transaction pooler gives each transaction another backend, so no state may outlive a transaction: no prepared
# statements, no SET for a session, no LISTEN, no session advisory locks.
CONNECT_ARGS: Mapping[str, object] = {
    "prepare_threshold": None,
    "connect_timeout": 10,
    # After a network failure a box must not hang: a write fails after 30 s (given in ms), a read after 25 s.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "vfleet",
}

IDLE_IN_TRANSACTION_TIMEOUT = "30s"
"""Maximum time that a box's transaction waits for the next statement of the box. A box that vanished during a
transaction loses its locks after this time. A slow box is never idle this long."""
STATEMENT_TIMEOUT = "300s"
"""Maximum time of a statement of a box: longer than any call of a box takes."""


_OTHER_DATABASES = frozenset({"mysql", "mariadb", "sqlite", "oracle", "mssql", "mongodb", "redis"})

_TRANSACTION_SETTINGS = (
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', %s, true), "
    "pg_catalog.set_config('statement_timeout', %s, true), pg_catalog.set_config('vfleet.box_key', %s, true), "
    "pg_catalog.set_config('role', 'none', true), pg_catalog.set_config('row_security', 'on', true), "
    "pg_catalog.set_config('synchronous_commit', 'on', true), "
    "pg_catalog.set_config('search_path', 'pg_catalog', true), "
    "pg_catalog.set_config('DateStyle', 'ISO', true), pg_catalog.set_config('client_encoding', 'UTF8', true), "
    "CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL "
    "THEN pg_catalog.set_config('transaction_timeout', '0', true) END"
)
"""Sets the settings that a call depends on, for its transaction only. Behind a pooler the session may have settings of
another client. Each function of the ledger sets its own search_path and lock_timeout.

The statement uses no operator: another client may have left a search_path with a schema that redefines operators."""
_SETS_BOX_KEY = "sets_box_key"


_MAX_PORT = 65535
_HOST = re.compile(r"[\w.,:%-]*")
"""A host name, an IPv4 address, an IPv6 address without brackets, or a list of these."""


def parse_database_url(database_url: str) -> URL:
    """Parse the address of a Postgres database. Returns the address with the driver psycopg.

    For a database on another machine the address gets ``sslmode=verify-full``, unless the address has its own
    ``sslmode`` or the environment has PGSSLMODE. libpq's default does not verify the server. A database with its own
    certificate authority, such as Supabase, needs ``&sslrootcert=FILE`` or PGSSLROOTCERT.

    Raises:
        BadInput: the address is empty or invalid, or not of a Postgres database. The message never shows a password.
    """
    if not database_url:
        raise BadInput("DATABASE_URL is not set: give it as postgresql://user:password@host:port/database")
    try:
        url = make_url(database_url.strip())
    except (ArgumentError, ValueError):  # for example a port that is not a number
        raise _unreadable_url() from None
    if url.port is not None and not 0 < url.port <= _MAX_PORT:
        raise BadInput(f"DATABASE_URL names port {url.port}: a port is a number from 1 to {_MAX_PORT}")
    if not _HOST.fullmatch(url.host or "") or "@" in f"{url.database}{''.join(url.query)}":
        raise _unreadable_url()  # host or database may contain part of the password
    if (backend := url.get_backend_name()) in _OTHER_DATABASES:
        raise BadInput(f"DATABASE_URL is the address of a {backend} database: the ledger needs Postgres")
    if backend not in {"postgresql", "postgres"}:
        raise _unreadable_url()
    url = url.set(drivername="postgresql+psycopg")
    if not is_remote(url) or {"sslmode", "PGSSLMODE"} & {*url.query, *os.environ}:
        return url
    authorities = url.query.get("sslrootcert") or os.environ.get("PGSSLROOTCERT") or certifi.where()
    return url.update_query_dict({"sslmode": "verify-full", "sslrootcert": authorities})


def _unreadable_url() -> BadInput:
    return BadInput(
        "DATABASE_URL cannot be read (it is not shown, because it may hold a password): give it as "
        "postgresql://user:password@host:port/database, with special characters of the password percent-encoded, "
        "such as %40 for @, %3A for :, %2F for / and %3F for ?"
    )


def is_remote(url: URL) -> bool:
    """Return whether the database is on another machine: its host is no socket path, not localhost and not 127.*."""
    host = str(url.host or url.query.get("host") or "localhost")
    return not (host.startswith(("/", "127.")) or host in {"localhost", "::1"})


def open_engine(database_url: str, box_key: SecretStr | None = None) -> Engine:
    """Return the engine of the ledger; the same engine for equal arguments. The engine connects on first use.

    A process holds one connection, and for short times up to two more, because work and heartbeat may call
    concurrently. A box runs three processes (the worker and two flow runs), so 100 boxes hold 300 client connections of
    a pooler.

    Args:
        database_url: the address of the database.
        box_key: the key that identifies the box; None for a login without box keys. All boxes share one login, and a
            pooler keeps no session state, so each transaction begins by setting the key.

    Raises:
        BadInput: ``parse_database_url`` refuses the address.
    """
    return _open_engine(database_url, box_key)


@cache
def _open_engine(database_url: str, box_key: SecretStr | None) -> Engine:
    engine = create_engine(
        parse_database_url(database_url),
        connect_args=dict(CONNECT_ARGS),
        pool_size=1,
        max_overflow=2,
        pool_pre_ping=True,
        pool_recycle=300,  # poolers drop idle connections after minutes
        hide_parameters=True,  # errors are logged, and keys and credentials are parameters
    )
    if box_key is not None:
        event.listen(engine, "connect", _begin_read_write)
        _set_box_key(engine, box_key)
    return engine


def _begin_read_write(connection: Any, _record: object) -> None:
    """Set mode and isolation level of each transaction, because another client may have changed the defaults."""
    connection.read_only = False
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def _set_box_key(engine: Engine, box_key: SecretStr) -> None:
    """Let each transaction of the engine begin with a statement that sets the box key and the timeouts."""
    # The key is a parameter, not part of the statement: sessions of the same login can read each other's statements.
    limits = (IDLE_IN_TRANSACTION_TIMEOUT, STATEMENT_TIMEOUT, box_key.get_secret_value())
    engine.update_execution_options(**{_SETS_BOX_KEY: True})

    @event.listens_for(engine, "begin")
    def set_box_key(connection: Connection) -> None:
        connection.exec_driver_sql(_TRANSACTION_SETTINGS, limits)


def connect_for_call(engine: Engine) -> AbstractContextManager[Connection]:
    """Open a connection for one statement, such that a caller that vanishes holds no lock for long.

    Without a box key the connection is in autocommit mode: the server ends the transaction with the statement. With a
    box key the connection has a transaction, which begins by setting the key and an idle timeout.
    """
    if engine.get_execution_options().get(_SETS_BOX_KEY):
        return engine.begin()
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


def describe_address(engine: Engine) -> str:
    """Return ``host:port/database`` of the ledger, without login and password."""
    url = engine.url
    return f"{url.host or url.query.get('host', 'local socket')}:{url.port or 5432}/{url.database}"

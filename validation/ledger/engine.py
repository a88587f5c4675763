"""Connections to Postgres: one engine per process, safe behind a transaction pooler."""

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
    # A box that lost its route must not hang: a write fails after 30 s (given in ms), a wait for an answer after 25 s.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "vfleet",
}

IDLE_IN_TRANSACTION_TIMEOUT = "30s"
"""How long a transaction may wait for its client's next statement: a box that vanished during one keeps its locks no
longer. A slow box never takes that long."""
STATEMENT_TIMEOUT = "300s"
"""Longer than any call of a box takes."""


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
"""What a call depends on, set for its transaction: behind a pooler the session may have the settings of another client.
Each function of the ledger sets its own search_path and lock_timeout. Without an operator: the search path that another
client left may begin with a schema that has operators of the same name."""
_SETS_BOX_KEY = "sets_box_key"


_MAX_PORT = 65535
_HOST = re.compile(r"[\w.,:%-]*")
"""A host name, an IPv4 or IPv6 address without its brackets, or a list of them."""


def parse_database_url(database_url: str) -> URL:
    """Parse a Postgres address and choose the driver.

    A connection to another machine is encrypted and the server verified, unless the address says otherwise
    (``?sslmode=``): libpq's default verifies nothing. A database with its own certificate authority, such as Supabase,
    needs ``&sslrootcert=FILE``.

    Raises:
        BadInput: it is empty, or not the address of a Postgres database. The message shows no part of it.
    """
    if not database_url:
        raise BadInput("DATABASE_URL is not set: give it as postgresql://user:password@host:port/database")
    try:
        url = make_url(database_url.strip())
    except (ArgumentError, ValueError):  # such as a port that is not a number
        raise _unreadable_url() from None
    if url.port is not None and not 0 < url.port <= _MAX_PORT:
        raise BadInput(f"DATABASE_URL names port {url.port}: a port is a number from 1 to {_MAX_PORT}")
    if not _HOST.fullmatch(url.host or "") or "@" in f"{url.database}{''.join(url.query)}":
        raise _unreadable_url()  # part of the password may be in there, so nothing of it is shown
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
    """Whether the database is on another machine."""
    host = str(url.host or url.query.get("host") or "localhost")
    return not (host.startswith(("/", "127.")) or host in {"localhost", "::1"})


def open_engine(database_url: str, box_key: SecretStr | None = None) -> Engine:
    """Open the ledger, once per process. Cheap: connects on first use.

    A process holds one connection, and up to two more for moments, because work and heartbeat may call at once. A box
    runs three processes (the worker and two flow runs), so 100 boxes hold 300 of a pooler's client connections.

    Args:
        database_url: the address of the database.
        box_key: identifies the box. All boxes share one login and no session keeps state, so each transaction begins by
            setting it.
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
    """Begin each transaction with its mode, whatever ``default_transaction_*`` another client has left behind."""
    connection.read_only = False
    connection.isolation_level = IsolationLevel.READ_COMMITTED


def _set_box_key(engine: Engine, box_key: SecretStr) -> None:
    # The key is a parameter and not part of the statement: each session of a login can read the others' statements.
    limits = (IDLE_IN_TRANSACTION_TIMEOUT, STATEMENT_TIMEOUT, box_key.get_secret_value())
    engine.update_execution_options(**{_SETS_BOX_KEY: True})

    @event.listens_for(engine, "begin")
    def set_box_key(connection: Connection) -> None:
        connection.exec_driver_sql(_TRANSACTION_SETTINGS, limits)


def connect_for_call(engine: Engine) -> AbstractContextManager[Connection]:
    """Open a connection for one statement such that a caller that vanishes leaves no lock behind.

    Without a box key the statement is a transaction of its own, which the server ends by itself, in one round trip.
    With a box key there is a transaction around it, which begins by setting the key and a timeout for its idling.
    """
    if engine.get_execution_options().get(_SETS_BOX_KEY):
        return engine.begin()
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def describe_address(engine: Engine) -> str:
    """Host, port and database of the ledger, without login and password."""
    url = engine.url
    return f"{url.host or url.query.get('host', 'local socket')}:{url.port or 5432}/{url.database}"

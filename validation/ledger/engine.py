"""The way to Postgres: one engine a process, safe behind a transaction pooler."""

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache

import certifi
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from validation.errors import BadInput

# A transaction pooler hands every transaction another backend: nothing may live in a session.
# So: no prepared statements, no SET outside functions, no LISTEN, no session advisory locks.
CONNECT_ARGS: Mapping[str, object] = {
    "prepare_threshold": None,
    "connect_timeout": 10,
    # A rented box that lost its route must not hang: in a write for 30 s (ms), nor in a wait for an answer for 25 s.
    "tcp_user_timeout": 30_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "vfleet",
}

IDLE_WITHIN = "30s"
"""How long a transaction may wait for its client's next word. A box that vanished in the midst of one holds its locks
no longer; one that is only slow is never so slow."""
STATEMENT_WITHIN = "300s"
"""Longer than anything that a box asks takes."""


_TRANSACTION_SETTINGS = (
    "SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('statement_timeout', %s, true), "
    "set_config('vfleet.box_key', %s, true)"
)
_SETS_BOX_KEY = "says_who_asks"


_HOST = re.compile(r"[\w.,:%-]*")
"""A host name, an IPv4 or IPv6 address without its brackets, or a list of them."""


def parse_database_url(database_url: str) -> URL:
    """Read a Postgres address as people write it, and choose our driver.

    The way to another machine is encrypted and the other end verified, unless the address itself says otherwise
    (``?sslmode=``): libpq by itself would settle for less. A database with an authority of its own, such as
    Supabase's, needs ``&sslrootcert=FILE``.

    Raises:
        BadInput: it is empty, or not the address of a Postgres database.
    """
    if not database_url:
        raise BadInput("DATABASE_URL is not set: give it as postgresql://user:password@host:port/database")
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # such as a port that is not a number
        raise _unreadable_url() from None
    if not _HOST.fullmatch(url.host or "") or "@" in f"{url.database}{''.join(url.query)}":
        raise _unreadable_url()  # part of the password may be in there, so nothing of it is shown
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise BadInput(f"DATABASE_URL names a {url.get_backend_name()} database: the ledger needs Postgres")
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
    """Whether the way to a database leaves this machine."""
    host = str(url.host or url.query.get("host") or "localhost")
    return not (host.startswith(("/", "127.")) or host in {"localhost", "::1"})


def open_engine(database_url: str, box_key: SecretStr | None = None) -> Engine:
    """Open the ledger, once a process. Cheap: connects on first use.

    A process holds one connection, and two more for moments: work and heartbeat may call at once. A box is three
    processes (the worker, two flow runs), so it holds three: 300 of a pooler's places for a hundred boxes.

    Args:
        database_url: where it is.
        box_key: says which machine asks. All boxes share one login, and nothing may live in a session: so every
            transaction begins by saying it.
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
        hide_parameters=True,  # errors are logged where others read them, and keys and credentials are parameters
    )
    if box_key is not None:
        _set_box_key(engine, box_key)
    return engine


def _set_box_key(engine: Engine, box_key: SecretStr) -> None:
    # The key is bound, never spelled in the statement: every box's login may read what its sessions run.
    limits = (IDLE_WITHIN, STATEMENT_WITHIN, box_key.get_secret_value())
    engine.update_execution_options(**{_SETS_BOX_KEY: True})

    @event.listens_for(engine, "begin")
    def say(connection: Connection) -> None:
        connection.exec_driver_sql(_TRANSACTION_SETTINGS, limits)


def connect_for_call(engine: Engine) -> AbstractContextManager[Connection]:
    """Open what one statement runs in, and commits with, such that a caller who vanishes leaves no lock behind.

    A statement alone is its own transaction: the server ends it whoever listens, and it costs one round trip. Where it
    must be said who asks there is a transaction around it, with a limit on its waiting, which the same message sets.
    """
    if engine.get_execution_options().get(_SETS_BOX_KEY):
        return engine.begin()
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def describe_address(engine: Engine) -> str:
    """Where the ledger is, without its password."""
    url = engine.url
    return f"{url.host or url.query.get('host', 'local socket')}:{url.port or 5432}/{url.database}"

"""The way to Postgres: one engine a process, safe behind a transaction pooler."""

from collections.abc import Mapping
from functools import lru_cache

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from validation.errors import BadInput

# A transaction pooler hands every transaction another backend: nothing may live in a session.
# So: no prepared statements, no SET outside functions, no LISTEN, no session advisory locks.
CONNECT_ARGS: Mapping[str, object] = {
    "prepare_threshold": None,
    "connect_timeout": 10,
    "tcp_user_timeout": 30_000,  # ms; a rented box that lost its route must not hang in a write for minutes
    "application_name": "vfleet",
}


def parse_database_url(database_url: str) -> URL:
    """Read a Postgres address as people write it, and choose our driver.

    Raises:
        BadInput: it is empty, or not the address of a Postgres database.
    """
    if not database_url:
        raise BadInput("DATABASE_URL is not set: give it as postgresql://user:password@host:port/database")
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise BadInput(
            "DATABASE_URL cannot be read: give it as postgresql://user:password@host:port/database"
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise BadInput(f"DATABASE_URL names a {url.get_backend_name()} database: the ledger needs Postgres")
    return url.set(drivername="postgresql+psycopg")


@lru_cache(maxsize=4)
def open_engine(database_url: str) -> Engine:
    """Open the ledger. Cheap: connects on first use.

    A box holds at most three connections: one for each flow run's work, one for heartbeats.
    """
    return create_engine(
        parse_database_url(database_url),
        connect_args=dict(CONNECT_ARGS),
        pool_size=1,
        max_overflow=2,
        pool_pre_ping=True,
        pool_recycle=300,  # poolers drop idle connections after minutes
    )


def describe_address(engine: Engine) -> str:
    """Where the ledger is, without its password."""
    url = engine.url
    return f"{url.host or url.query.get('host', 'local socket')}:{url.port or 5432}/{url.database}"

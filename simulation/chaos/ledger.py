"""Run the SQL statements of chaos runs: they change times, lock a row, and read how chunks ended."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, TextClause, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.rpc import translate_error

STATEMENTS = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """The end of a closed chunk: its state, reason and time."""

    chunk_id: UUID
    state: str
    close_reason: str | None
    closed_at: Seconds
    """Time at which the chunk was closed, as Unix time of the database's clock."""


def expire_leases(engine: Engine, worker_id: str) -> int:
    """Set the expiry of a worker's leases to one second ago. Return the number of leases."""
    return len(_execute(engine, "expire_leases", worker=worker_id))


def hold_worker(engine: Engine, worker_id: str) -> Callable[[], None] | None:
    """Lock a worker's row in an open transaction.

    Return a function that ends the transaction. Return None if another transaction has locked the row.
    """
    parameters = {"worker": worker_id}
    try:
        connection = engine.connect()
        held = connection.execute(_read("hold_worker"), parameters).first()
    except DBAPIError as error:
        raise translate_error(error, engine, "hold_worker", parameters) from error

    def release() -> None:
        with suppress(DBAPIError):  # Postgres was killed meanwhile, which ended the transaction
            connection.close()

    if held is None:
        release()
        return None
    return release


def end_backoffs(engine: Engine) -> None:
    """Make every pending video claimable now, without its back-off."""
    _execute(engine, "end_backoffs")


def read_chunk_ends(engine: Engine) -> dict[UUID, ChunkEnd]:
    """Read how every closed chunk ended."""
    return {row.chunk_id: ChunkEnd(*tuple(row)) for row in _execute(engine, "chunk_ends")}


def count_chunks(engine: Engine) -> int:
    """Count the chunks that were ever claimed."""
    (row,) = _execute(engine, "count_chunks")
    return int(row[0])


def _read(name: str) -> TextClause:
    return text((STATEMENTS / f"{name}.sql").read_text(encoding="utf-8"))


def _execute(engine: Engine, name: str, **parameters: Any) -> list[Row[Any]]:
    try:
        with engine.begin() as connection:
            done = connection.execute(_read(name), parameters)
            return list(done) if done.returns_rows else []
    except DBAPIError as error:
        raise translate_error(error, engine, name, parameters) from error

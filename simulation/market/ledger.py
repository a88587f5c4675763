"""Run the SQL statements of the simulation: they set the ledger's clock, fill the queue and count results."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, text

from validation.domain import Seconds

STATEMENTS = Path(__file__).parent / "sql"


class SimulatedClock:
    """Replaces the clock of one ledger. Times are Unix times in seconds."""

    def __init__(self, engine: Engine, now: Seconds) -> None:
        self._engine = engine
        with engine.begin() as connection:
            cursor = connection.connection.cursor()  # use the driver directly, because the script contains % and $
            cursor.execute((STATEMENTS / "simulate_clock.sql").read_text(encoding="utf-8"))
            cursor.close()
        self.set(now)

    def set(self, now: Seconds) -> None:
        _execute(self._engine, "set_clock", now=now)


@dataclass(frozen=True, slots=True)
class Committed:
    """The number of committed shards, and their total segments and seconds of audio."""

    shards: int
    segments: int
    audio_s: Seconds


def fill_queue(engine: Engine, *, videos: int, segments: int) -> None:
    """Add or delete pending videos until ``videos`` videos are pending or claimed.

    New videos have ``segments`` segments.
    """
    _execute(engine, "fill_queue", videos=videos, segments=segments)


def read_committed(engine: Engine) -> Committed:
    (row,) = _execute(engine, "committed")
    return Committed(int(row.shards), int(row.segments), float(row.audio_s))


def read_wanted_labels(engine: Engine) -> set[str]:
    """Read the labels of all boxes whose state in the ledger is not `gone`."""
    return {row.label for row in _execute(engine, "wanted_labels")}


def _execute(engine: Engine, name: str, **parameters: Any) -> list[Row[Any]]:
    with engine.begin() as connection:
        done = connection.execute(text((STATEMENTS / f"{name}.sql").read_text(encoding="utf-8")), parameters)
        return list(done) if done.returns_rows else []

"""Read the fleet's status from the ledger's views."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import Engine

from validation.ledger.queries import read_view

Row: TypeAlias = Mapping[str, Any]
"""A row of a view, by column. The view's file in sql/views describes the columns."""

LIVENESS_ORDER = ("stale", "late", "online", "offline")
"""The order in which workers are shown. Stale and late workers come first because they may hold chunks."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """The rows of the ledger's status views."""

    fleet: Row
    languages: Sequence[Row]
    workers: Sequence[Row]
    """One row per worker. Quarantined workers come first, then the other workers in ``LIVENESS_ORDER``."""
    eta: Row
    cost: Row
    history: Sequence[Row]
    orders: Sequence[Row] = ()
    """One row per fleet whose order asks for at least one box."""

    @property
    def videos(self) -> int:
        """Number of videos that have a transcript, in any state. Canaries are included."""
        return sum(row["videos"] for row in self.languages)

    @property
    def done_share(self) -> float | None:
        """Share of the videos that are validated or failed; None if there are no videos."""
        done = sum(row["validated"] + row["failed"] for row in self.languages)
        return done / self.videos if self.videos else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the queue is empty at the rate of the last hour; None if unknown or if no worker is online."""
        seconds: float | None = self.eta["seconds_left"] if self.fleet["workers_online"] else None
        return seconds

    @property
    def usd_at_end(self) -> float | None:
        """Expected total cost in dollars when the queue is empty, at the present price and rate; None if unknown."""
        spent, usd_per_hour, seconds = self.cost["spent_usd"], self.cost["usd_per_hour"], self.seconds_left
        return None if spent is None or seconds is None else float(spent) + float(usd_per_hour) * seconds / 3600


def read_status(engine: Engine) -> FleetStatus:
    """Read each status view of the ledger once. The views are read one after the other, not as of one moment."""
    (fleet,) = read_view(engine, "fleet_overview")
    (eta,) = read_view(engine, "eta")
    (cost,) = read_view(engine, "cost_so_far")
    workers = read_view(engine, "worker_liveness")
    return FleetStatus(
        fleet=fleet,
        languages=read_view(engine, "queue_progress"),
        workers=sorted(
            workers, key=lambda row: (row["quarantine_reason"] is None, LIVENESS_ORDER.index(row["liveness"]))
        ),
        eta=eta,
        cost=cost,
        history=read_view(engine, "progress_history"),
        orders=[row for row in read_view(engine, "fleet_budget") if row["machines"]],
    )


def dump_status(status: FleetStatus) -> dict[str, Any]:
    """Convert a status to JSON values. Times are in ISO 8601, and unknown values are None."""
    plain: dict[str, Any] = _to_json_value(asdict(status))
    return plain


def _to_json_value(value: Any) -> Any:
    """Return a value of a view as a JSON value; containers are converted with their elements."""
    match value:
        case Mapping():
            return {key: _to_json_value(item) for key, item in value.items()}
        case list() | tuple():
            return [_to_json_value(item) for item in value]
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return value.isoformat()
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)

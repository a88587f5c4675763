"""The fleet's status: one snapshot of the ledger's views."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import Engine

from validation.ledger.queries import read_view

Row: TypeAlias = Mapping[str, Any]
"""A row of a view, by column; the columns are described in the view's file in sql/views."""

LIVENESS_ORDER = ("stale", "late", "online", "offline")
"""The order in which workers are shown: stale and late workers may hold chunks."""


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """A snapshot of the fleet."""

    fleet: Row
    languages: Sequence[Row]
    workers: Sequence[Row]
    """Workers with problems first."""
    eta: Row
    cost: Row
    history: Sequence[Row]
    orders: Sequence[Row] = ()
    """The fleets of which boxes are ordered."""

    @property
    def videos(self) -> int:
        """Transcribed videos in any state."""
        return sum(row["videos"] for row in self.languages)

    @property
    def done_share(self) -> float | None:
        """Share of the videos that are validated or have finally failed; None without videos."""
        done = sum(row["validated"] + row["failed"] for row in self.languages)
        return done / self.videos if self.videos else None

    @property
    def seconds_left(self) -> float | None:
        """When the queue will be empty at the rate of the last hour; None if no worker is online to empty it."""
        seconds: float | None = self.eta["seconds_left"] if self.fleet["workers_online"] else None
        return seconds

    @property
    def usd_at_end(self) -> float | None:
        """The fleet's total cost when the queue is empty, at the present price and rate."""
        spent, usd_per_hour, seconds = self.cost["spent_usd"], self.cost["usd_per_hour"], self.seconds_left
        return None if spent is None or seconds is None else float(spent) + float(usd_per_hour) * seconds / 3600


def read_status(engine: Engine) -> FleetStatus:
    """Read each view once."""
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
    """The snapshot as JSON values: times in ISO 8601, numbers as numbers, unknown values as null."""
    plain: dict[str, Any] = _plain(asdict(status))
    return plain


def _plain(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return value.isoformat()
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)

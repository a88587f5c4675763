"""Calls about fleets and rented boxes. One Python function per SQL function or view; times are the database's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias
from uuid import UUID

from sqlalchemy import Engine

from validation.errors import BadInput
from validation.ledger.queries import read_view, row_to_dataclass
from validation.ledger.rpc import call_function

State: TypeAlias = Literal["requested", "renting", "working", "draining", "destroying", "destroyed", "gone"]
BanKind: TypeAlias = Literal["machine", "host"]


class FleetUnknown(BadInput):
    """The ledger has no fleet with this name."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        super().__init__(f"there is no fleet {fleet!r}: `vfleet fleet up` creates one")


@dataclass(frozen=True, slots=True)
class RentedInstance:
    """A rented box, or a box that is about to be rented, with the reports of its worker."""

    label: str
    """The label of the rental at the vendor, unique and never used again."""
    slot: int
    worker_id: str
    state: State
    offer_id: int
    machine_id: int
    host_id: int
    gpu_name: str
    usd_per_hour: float
    usd_once: float
    """The part of the price that is due once per rental."""
    boot_timeout_s: int
    instance_id: int | None
    """The vendor's id of the instance; None until the vendor has told it."""
    requested_at: datetime
    changed_at: datetime
    """The time of the last change of ``state``."""
    vendor_status: str | None = None
    """The status in the vendor's last listing that had the box; None before the first, or while the box is created."""
    vendor_status_since: datetime | None = None
    """Since when the listings show ``vendor_status``; None before the first listing that had the box."""
    absences: int = 0
    """Number of complete listings in succession that lacked the box, at least 30 s apart."""
    first_running_at: datetime | None = None
    """When a listing first had the box with the status ``running``; None before."""
    accepted_at: datetime | None = None
    """When the box became ``working``; None before."""
    slow_since: datetime | None = None
    """Since when the box is slow (see ``record_observations``); None if it is not."""
    reason: str | None = None
    """The first reason that was given for a change of state."""
    closed_at: datetime | None = None
    """When the box became ``gone``; None before."""
    heartbeat_at: datetime | None = None
    """The last heartbeat of the worker since the request; None if there was none."""
    segments_per_s: float = 0.0
    """Segments per second that the worker id last reported. Until the first report of this box, the value is from an
    earlier box of the slot, or 0."""
    video_completed_at: datetime | None = None
    """When the worker id last validated a video, on this box or on an earlier box of the slot."""
    open_chunks: int = 0
    gpu_seen: str | None = None
    """The name of the GPU that the driver reported to the worker on the box."""
    quarantine_reason: str | None = None
    """The reason of the quarantine; None if the box is not quarantined."""


@dataclass(frozen=True, slots=True)
class FleetBudget:
    """The order of a fleet, the cost of its boxes until now, and the work that is left in the whole ledger."""

    fleet: str
    now: datetime
    """The ledger's time."""
    label_prefix: str
    """The beginning of the labels of all boxes of the fleet."""
    machines: int
    """Number of boxes that are ordered."""
    max_usd_per_hour: float
    max_usd: float
    order_json: Mapping[str, Any]
    """The launch specification, as ``LaunchSpec.to_json`` returns it."""
    usd_per_hour: float
    """Total price of all boxes that are not known to be gone, including rental requests with an unknown outcome."""
    spent_usd: float
    """An upper bound of the cost until now (sql/functions/fleet_spend.sql)."""
    videos_waiting: int
    """Number of pending videos, without those that wait for a box of another owner while none is online."""
    chunks_open: int
    abandoned: bool
    """Whether the boxes are destroyed without draining."""
    boxes: int = 0
    """Number of boxes in the states requested, renting, working and draining."""
    last_tick_at: datetime | None = None
    last_tick: Sequence[str] = ()
    """Sentences of the last tick: why fewer boxes run than are ordered, and which actions failed."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A vendor's machine or host that is not rented until ``expires_at``."""

    kind: BanKind
    vendor_id: int
    reason: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ObservedInstance:
    """The state of one instance in the vendor's listing."""

    label: str
    instance_id: int
    status: str | None
    message: str | None
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class RentalRequest:
    """An offer that is about to be rented, with its prices."""

    offer_id: int
    machine_id: int
    host_id: int
    gpu_name: str
    usd_per_hour: float
    usd_once: float
    boot_timeout_s: int
    """Seconds from the request to a running container; a box that takes longer has failed."""


@dataclass(frozen=True, slots=True)
class SpendCheck:
    """The decrease of the account's credit and the increase of the fleet's recorded spend within the last day."""

    credit_decrease_usd: float
    recorded_spend_usd: float
    intervals: int
    """Number of pairs of successive readings that were compared. Pairs with a top-up between them are left out."""


def set_target(
    engine: Engine, fleet: str, *, machines: int, max_usd_per_hour: float, max_usd: float, order: Mapping[str, Any]
) -> None:
    """Record what an operator orders for a fleet: the number of boxes, the caps and the launch specification.

    The record replaces the fleet's earlier order and ends an earlier ``scale_to_zero(abandon=True)``. The next tick
    acts on it.

    Args:
        engine: the ledger.
        fleet: the name of the fleet.
        machines: the number of boxes.
        max_usd_per_hour: cap on what all boxes of the fleet cost per hour.
        max_usd: cap on what the fleet costs in all.
        order: the launch specification, as ``LaunchSpec.to_json`` returns it.
    """
    call_function(
        engine, "fleet_set_target", fleet=fleet, machines=machines,
        max_usd_per_hour=_dollars(max_usd_per_hour), max_usd=_dollars(max_usd), order=json.dumps(dict(order)),
    )  # fmt: skip


def scale_to_zero(engine: Engine, fleet: str, *, abandon: bool = False) -> None:
    """Order zero boxes for a fleet. With ``abandon`` its boxes are destroyed without draining, until ``set_target``.

    Raises:
        FleetUnknown: the ledger has no fleet with this name.
    """
    if not call_function(engine, "fleet_scale_to_zero", fleet=fleet, abandon=abandon)[0][0]:
        raise FleetUnknown(fleet)


def acquire_lock(engine: Engine, fleet: str, holder: UUID, *, lease_s: int) -> bool:
    """Acquire or extend the reconciler's lock of a fleet for ``lease_s`` seconds.

    Returns False if another holder has the lock, or if the ledger has no such fleet.
    """
    return bool(call_function(engine, "fleet_acquire_lock", fleet=fleet, holder=holder, lease_s=lease_s)[0][0])


def release_lock(engine: Engine, fleet: str, holder: UUID) -> None:
    call_function(engine, "fleet_release_lock", fleet=fleet, holder=holder)


def acquire_search_quota(engine: Engine, fleet: str, holder: UUID) -> bool:
    """Return whether the fleet may search offers now, and count the search if so.

    The first hundred searches of a day (UTC) may be two minutes apart, later searches eight minutes. False if
    ``holder`` does not hold the lock of the fleet.
    """
    return bool(call_function(engine, "fleet_acquire_search_quota", fleet=fleet, holder=holder)[0][0])


def request_machine(
    engine: Engine, fleet: str, holder: UUID, *, label: str, slot: int, request: RentalRequest
) -> str | None:
    """Record that a box is about to be rented. Returns None if recorded, else the reason why renting is not allowed."""
    (row,) = call_function(
        engine, "fleet_request", fleet=fleet, holder=holder, label=label, slot=slot, offer=json.dumps(asdict(request))
    )
    return None if row[0] is None else str(row[0])


def transition_instance(
    engine: Engine, label: str, to: State, *, instance_id: int | None = None, reason: str | None = None
) -> bool:
    """Move a box to the state ``to``, if ``read_transitions`` allows the change. May be repeated.

    The state ``draining`` also marks the worker draining; ``destroyed`` marks it offline and releases its open chunks.
    Returns whether the box is in the state ``to`` now.
    """
    rows = call_function(engine, "fleet_transition", label=label, to=to, instance_id=instance_id, reason=reason)
    return bool(rows[0][0])


def record_observations(
    engine: Engine,
    fleet: str,
    seen: Sequence[ObservedInstance],
    *,
    complete: bool,
    slow_share: float,
    min_class_size: int,
) -> None:
    """Record the vendor's listing of a fleet's boxes, and mark which of the listed boxes are slow.

    Instances that are not in the ledger for this fleet are ignored.

    Args:
        engine: the ledger.
        fleet: the name of the fleet.
        seen: the listed instances.
        complete: whether the listing is complete. If so, a box that is not listed is counted as absent, at most once in
            30 s.
        slow_share: a working box is slow if its segments per second are below this share of the median of its GPU model
            in the fleet.
        min_class_size: number of working boxes of a GPU model whose speed must be measured before any of them can be
            slow.
    """
    call_function(
        engine,
        "fleet_record_observation",
        fleet=fleet,
        seen=json.dumps([asdict(instance) for instance in seen]),
        complete=complete,
        slow_share=slow_share,
        min_class_size=min_class_size,
    )


def ban_machine(engine: Engine, machine: RentedInstance, *, reason: str, ttl_s: int) -> None:
    """Ban a vendor's machine for ``ttl_s`` seconds, or until the end of its earlier ban if that is later.

    If three machines of one host are banned, the host is banned for the same time.
    """
    call_function(
        engine, "fleet_ban", machine=machine.machine_id, host=machine.host_id, reason=reason, ttl_s=ttl_s
    )  # fmt: skip


def lift_ban(engine: Engine, kind: BanKind, vendor_id: int) -> bool:
    """Lift the ban of a vendor's machine or host. Returns whether a ban existed."""
    return bool(call_function(engine, "fleet_lift_ban", kind=kind, vendor_id=vendor_id)[0][0])


def record_credit(engine: Engine, fleet: str, credit_usd: float) -> None:
    """Record the account's credit together with the fleet's recorded spend at this time.

    Records of the fleet that are older than seven days are deleted.
    """
    call_function(engine, "fleet_record_credit", fleet=fleet, credit_usd=_dollars(credit_usd))


def record_tick(engine: Engine, fleet: str, sentences: Sequence[str]) -> None:
    """Store the sentences of a tick, in place of the sentences of the previous tick."""
    call_function(engine, "fleet_record_tick", fleet=fleet, sentences=list(sentences))


def read_transitions(engine: Engine) -> frozenset[tuple[str, str]]:
    """Read all allowed state changes of a box as pairs (from, to)."""
    return frozenset((row.from_state, row.to_state) for row in call_function(engine, "fleet_transitions"))


def read_rented_instances(engine: Engine, fleet: str) -> list[RentedInstance]:
    """Read a fleet's boxes that may still be billed, and its boxes that were closed within the last half hour."""
    return [
        row_to_dataclass(RentedInstance, row) for row in read_view(engine, "rented_instances") if row["fleet"] == fleet
    ]


def read_budget(engine: Engine, fleet: str) -> FleetBudget:
    """Read a fleet's order, cost and remaining work.

    Raises:
        FleetUnknown: the ledger has no fleet with this name.
    """
    for row in read_view(engine, "fleet_budget"):
        if row["fleet"] == fleet:
            return row_to_dataclass(FleetBudget, row)
    raise FleetUnknown(fleet)


def read_fleets(engine: Engine) -> list[str]:
    """Read the names of all fleets."""
    return [row["fleet"] for row in read_view(engine, "fleet_budget")]


def read_bans(engine: Engine) -> list[Ban]:
    return [row_to_dataclass(Ban, row) for row in read_view(engine, "fleet_bans")]


def read_spend_check(engine: Engine, fleet: str) -> SpendCheck | None:
    """Read the spend check of a fleet; None if no two successive readings of the last day can be compared."""
    rows = [row for row in read_view(engine, "fleet_spend_check") if row["fleet"] == fleet]
    return row_to_dataclass(SpendCheck, rows[0]) if rows else None


def _dollars(amount: float) -> Decimal:
    return Decimal(str(amount))

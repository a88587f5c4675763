"""The ledger of the rented boxes. One Python function per SQL function or view; all times are the database's."""

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
    """There is no fleet of this name."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        super().__init__(f"there is no fleet {fleet!r}: `vfleet fleet up` creates one")


@dataclass(frozen=True, slots=True)
class RentedInstance:
    """One rented box, or one that is about to be rented, with what its worker reports."""

    label: str
    slot: int
    worker_id: str
    state: State
    offer_id: int
    machine_id: int
    host_id: int
    gpu_name: str
    usd_per_hour: float
    usd_once: float
    boot_timeout_s: int
    instance_id: int | None
    requested_at: datetime
    changed_at: datetime
    vendor_status: str | None = None
    vendor_status_since: datetime | None = None
    absences: int = 0
    first_running_at: datetime | None = None
    accepted_at: datetime | None = None
    slow_since: datetime | None = None
    reason: str | None = None
    closed_at: datetime | None = None
    heartbeat_at: datetime | None = None
    segments_per_s: float = 0.0
    video_completed_at: datetime | None = None
    open_chunks: int = 0
    gpu_seen: str | None = None
    """The GPU that the worker found on the box, as the driver names it."""
    quarantine_reason: str | None = None
    """What was wrong with a canary; None unless the box is quarantined."""


@dataclass(frozen=True, slots=True)
class FleetBudget:
    """What is ordered of a fleet, what it has cost, and what is left to do."""

    fleet: str
    now: datetime
    label_prefix: str
    machines: int
    max_usd_per_hour: float
    max_usd: float
    order_json: Mapping[str, Any]
    usd_per_hour: float
    """Of every box that is not known to be gone, including requests with an unknown outcome."""
    spent_usd: float
    """An upper bound: see fleet_spend."""
    videos_waiting: int
    chunks_open: int
    abandoned: bool
    """Destroy without draining."""
    boxes: int = 0
    """Boxes that work or will."""
    last_tick_at: datetime | None = None
    last_tick: Sequence[str] = ()
    """What the last tick said: why fewer boxes run than are ordered, and what failed."""


@dataclass(frozen=True, slots=True)
class Ban:
    """A vendor's machine or host that is not rented until ``expires_at``."""

    kind: BanKind
    vendor_id: int
    reason: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ObservedInstance:
    """What a listing showed of one instance."""

    label: str
    instance_id: int
    status: str | None
    message: str | None
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class RentalRequest:
    """The offer that is about to be rented."""

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
    """One day of the account's credit beside the recorded spend."""

    credit_decrease_usd: float
    recorded_spend_usd: float
    intervals: int


def set_target(
    engine: Engine, fleet: str, *, machines: int, max_usd_per_hour: float, max_usd: float, order: Mapping[str, Any]
) -> None:
    """Record what an operator orders. The next tick acts on it."""
    call_function(
        engine, "fleet_set_target", fleet=fleet, machines=machines,
        max_usd_per_hour=_dollars(max_usd_per_hour), max_usd=_dollars(max_usd), order=json.dumps(dict(order)),
    )  # fmt: skip


def scale_to_zero(engine: Engine, fleet: str, *, abandon: bool = False) -> None:
    """Order no boxes any more; with ``abandon``, destroy them without draining.

    Raises:
        FleetUnknown: there is no such fleet.
    """
    if not call_function(engine, "fleet_scale_to_zero", fleet=fleet, abandon=abandon)[0][0]:
        raise FleetUnknown(fleet)


def acquire_lock(engine: Engine, fleet: str, holder: UUID, *, lease_s: int) -> bool:
    """Become the only reconciler that may rent, or extend that. False while another one is."""
    return bool(call_function(engine, "fleet_acquire_lock", fleet=fleet, holder=holder, lease_s=lease_s)[0][0])


def release_lock(engine: Engine, fleet: str, holder: UUID) -> None:
    call_function(engine, "fleet_release_lock", fleet=fleet, holder=holder)


def acquire_search_quota(engine: Engine, fleet: str, holder: UUID) -> bool:
    """Whether offers may be searched now; counts the search if so."""
    return bool(call_function(engine, "fleet_acquire_search_quota", fleet=fleet, holder=holder)[0][0])


def request_machine(
    engine: Engine, fleet: str, holder: UUID, *, label: str, slot: int, request: RentalRequest
) -> str | None:
    """Record that a box is about to be rented. None: recorded, rent it now; else the reason why it may not be."""
    (row,) = call_function(
        engine, "fleet_request", fleet=fleet, holder=holder, label=label, slot=slot, offer=json.dumps(asdict(request))
    )
    return None if row[0] is None else str(row[0])


def transition_instance(
    engine: Engine, label: str, to: State, *, instance_id: int | None = None, reason: str | None = None
) -> bool:
    """Move a box along one of ``read_transitions``. Whether it is in that state now; may be repeated."""
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
    """Record what a listing showed of a fleet's boxes; instances without a row of this fleet are ignored.

    Args:
        engine: the ledger.
        fleet: its name.
        seen: the listed instances.
        complete: whether every instance was listed; then a box that was not is absent.
        slow_share: a box below this share of the median speed of its GPU is slow.
        min_class_size: boxes of a GPU that must have shown their speed before one of them is slow.
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
    """Ban a vendor's machine for ``ttl_s``; the third banned machine of one host bans the host."""
    call_function(
        engine, "fleet_ban", machine=machine.machine_id, host=machine.host_id, reason=reason, ttl_s=ttl_s
    )  # fmt: skip


def lift_ban(engine: Engine, kind: BanKind, vendor_id: int) -> bool:
    """Lift a ban. Whether there was one."""
    return bool(call_function(engine, "fleet_lift_ban", kind=kind, vendor_id=vendor_id)[0][0])


def record_credit(engine: Engine, fleet: str, credit_usd: float) -> None:
    """Record the account's credit beside the recorded spend."""
    call_function(engine, "fleet_record_credit", fleet=fleet, credit_usd=_dollars(credit_usd))


def record_tick(engine: Engine, fleet: str, sentences: Sequence[str]) -> None:
    """Keep what a tick said, in place of what the one before it said."""
    call_function(engine, "fleet_record_tick", fleet=fleet, sentences=list(sentences))


def read_transitions(engine: Engine) -> frozenset[tuple[str, str]]:
    """Every state change that a box may make."""
    return frozenset((row.from_state, row.to_state) for row in call_function(engine, "fleet_transitions"))


def read_rented_instances(engine: Engine, fleet: str) -> list[RentedInstance]:
    """The boxes that may still be billed, and those closed within the last half hour."""
    return [
        row_to_dataclass(RentedInstance, row) for row in read_view(engine, "rented_instances") if row["fleet"] == fleet
    ]


def read_budget(engine: Engine, fleet: str) -> FleetBudget:
    """The fleet's order, cost and remaining work. Raises FleetUnknown."""
    for row in read_view(engine, "fleet_budget"):
        if row["fleet"] == fleet:
            return row_to_dataclass(FleetBudget, row)
    raise FleetUnknown(fleet)


def read_fleets(engine: Engine) -> list[str]:
    """The names of all fleets."""
    return [row["fleet"] for row in read_view(engine, "fleet_budget")]


def read_bans(engine: Engine) -> list[Ban]:
    return [row_to_dataclass(Ban, row) for row in read_view(engine, "fleet_bans")]


def read_spend_check(engine: Engine, fleet: str) -> SpendCheck | None:
    """None until the account was read twice."""
    rows = [row for row in read_view(engine, "fleet_spend_check") if row["fleet"] == fleet]
    return row_to_dataclass(SpendCheck, rows[0]) if rows else None


def _dollars(amount: float) -> Decimal:
    return Decimal(str(amount))

"""Helpers of fleet tests."""

from uuid import UUID, uuid4

from tests.support.ledger_helpers import execute
from validation.ledger.fleet import (
    RentalRequest,
    RentedInstance,
    acquire_lock,
    read_budget,
    read_rented_instances,
    request_machine,
    set_target,
)

HOLDER = UUID(int=1)


def want(ledger, fleet="blue", **wanted) -> str:
    """Order a fleet, take its lock, and return its label prefix."""
    caps = {"machines": 3, "max_usd_per_hour": 1.0, "max_usd": 10.0, "order": {}} | wanted
    set_target(ledger, fleet, **caps)
    assert acquire_lock(ledger, fleet, HOLDER, lease_s=300)
    return read_budget(ledger, fleet).label_prefix


def label_for(ledger, slot: int, fleet="blue") -> str:
    return f"{read_budget(ledger, fleet).label_prefix}{slot}/{uuid4().hex[:8]}"


def request(ledger, slot=1, *, fleet="blue", **offer) -> tuple[str, str | None]:
    """Record a rental request; returns its label and the refusal, if any."""
    given = {"offer_id": slot, "machine_id": 10 * slot, "host_id": 100, "gpu_name": "RTX 3090"}
    rental = RentalRequest(**(given | {"usd_per_hour": 0.25, "usd_once": 0.02, "boot_timeout_s": 900} | offer))
    label = label_for(ledger, slot, fleet)
    return label, request_machine(ledger, fleet, HOLDER, label=label, slot=slot, request=rental)


def box_of(ledger, label, fleet="blue") -> RentedInstance:
    return next(box for box in read_rented_instances(ledger, fleet) if box.label == label)


TIME_COLUMNS = {
    "fleet_instances": [
        "requested_at", "changed_at", "vendor_status_since", "last_seen_at", "last_absence_at", "first_running_at",
        "accepted_at", "slow_since", "billed_until", "closed_at",
    ],
    "fleets": ["lock_expires_at", "searched_at"],
    "fleet_blacklist": ["banned_at", "expires_at"],
}  # fmt: skip


def pass_time(ledger, seconds: float) -> None:
    """Move every time in the fleet's tables so many seconds into the past."""
    for table, columns in TIME_COLUMNS.items():
        moved = ", ".join(f"{column} = {column} - make_interval(secs => :s)" for column in columns)
        execute(ledger, f"UPDATE {table} SET {moved}", s=seconds)

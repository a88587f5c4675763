"""What tests of the fleet do over and over."""

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
    """Want a fleet, take its turn, and return its label prefix."""
    caps = {"machines": 3, "max_usd_per_hour": 1.0, "max_usd": 10.0, "order": {}} | wanted
    set_target(ledger, fleet, **caps)
    assert acquire_lock(ledger, fleet, HOLDER, lease_s=300)
    return read_budget(ledger, fleet).label_prefix


def label_for(ledger, slot: int, fleet="blue") -> str:
    return f"{read_budget(ledger, fleet).label_prefix}{slot}/{uuid4().hex[:8]}"


def request(ledger, slot=1, *, fleet="blue", **offer) -> tuple[str, str | None]:
    """Enter an intent; returns its label and the refusal, if any."""
    given = {"offer_id": slot, "machine_id": 10 * slot, "host_id": 100, "gpu_name": "RTX 3090"}
    intent = RentalRequest(**(given | {"usd_per_hour": 0.25, "usd_once": 0.02, "boot_timeout_s": 900} | offer))
    label = label_for(ledger, slot, fleet)
    return label, request_machine(ledger, fleet, HOLDER, label=label, slot=slot, request=intent)


def machine_of(ledger, label, fleet="blue") -> RentedInstance:
    return next(machine for machine in read_rented_instances(ledger, fleet) if machine.label == label)


TIMES = {
    "fleet_instances": [
        "requested_at", "changed_at", "vendor_status_since", "last_seen_at", "last_absence_at", "first_running_at",
        "accepted_at", "slow_since", "billed_until", "closed_at",
    ],
    "fleets": ["lock_expires_at", "searched_at"],
    "fleet_blacklist": ["banned_at", "expires_at"],
}  # fmt: skip


def pass_time(ledger, seconds: float) -> None:
    """Edit time: everything in the fleet's books happened so much earlier."""
    for table, columns in TIMES.items():
        moved = ", ".join(f"{column} = {column} - make_interval(secs => :s)" for column in columns)
        execute(ledger, f"UPDATE {table} SET {moved}", s=seconds)

"""What is wrong with a machine, if anything. Its vendor's word counts against it, never for it: work does."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median

from validation.domain import Seconds
from validation.fleet.blacklist import Reason
from validation.fleet.policy import ControllerPolicy
from validation.ledger.fleet import RentedInstance
from validation.vast.instances import Instance

FATAL: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"OCI runtime create failed|unsatisfied condition", re.IGNORECASE), "runtime_failed"),
    (re.compile(r"pull rate limit", re.IGNORECASE), "pull_limited"),
    (re.compile(r"manifest unknown|unauthorized|denied", re.IGNORECASE), "image_refused"),
    (re.compile(r"no space left|connection reset", re.IGNORECASE), "pull_failed"),
)
"""Messages after which a machine never starts."""


def judge(
    machine: RentedInstance, seen: Instance | None, now: datetime, rules: ControllerPolicy, *, max_usd: float
) -> Reason | None:
    """Why this machine must go, None if it may stay.

    Args:
        machine: one that is renting, working or draining.
        seen: its row in a complete listing.
        now: the ledger's time.
        rules: how patient we are.
        max_usd: the most that a machine may cost an hour.
    """
    if seen is None:
        alive = _age(machine.heartbeat_at, now) < rules.silent_s
        return "vanished" if machine.absences >= rules.absences_to_close and not alive else None
    if machine.quarantine_reason is not None:
        return "quarantined"
    if seen.dph_total > max_usd:
        return "over_price"
    if seen.is_stopped and _age(machine.requested_at, now) > rules.blip_s:
        return "stopped"
    if seen.actual_status in {"offline", "unknown"} and _age(machine.vendor_status_since, now) > rules.lost_s:
        return "lost"
    return _judge_start(machine, seen, now, rules) if machine.state == "renting" else _judge_work(machine, now, rules)


def _judge_start(machine: RentedInstance, seen: Instance, now: datetime, rules: ControllerPolicy) -> Reason | None:
    for pattern, reason in FATAL:
        if pattern.search(seen.status_msg or ""):
            return reason
    if gpu_mismatch(machine):
        return "gpu_mismatch"
    if machine.heartbeat_at is not None:  # heard, and not accepted yet: it has fallen silent, or a tick is due
        return "heartbeat_timeout" if _age(machine.heartbeat_at, now) > rules.silent_s else None
    if machine.first_running_at is not None:
        return "heartbeat_timeout" if _age(machine.first_running_at, now) > rules.silent_boot_s else None
    return "never_booted" if _age(machine.requested_at, now) > machine.boot_timeout_s else None


def _judge_work(machine: RentedInstance, now: datetime, rules: ControllerPolicy) -> Reason | None:
    if gpu_mismatch(machine):
        return "gpu_mismatch"
    if _age(machine.heartbeat_at, now) > rules.silent_s:
        return "heartbeat_timeout"
    if machine.slow_since is not None and _age(machine.slow_since, now) > rules.slow_s:
        return "slow"
    progress = max(filter(None, (machine.video_completed_at, machine.accepted_at)), default=None)
    if machine.open_chunks and _age(progress, now) > rules.stuck_s:
        return "no_progress"
    return None


def has_heartbeat(machine: RentedInstance, now: datetime, rules: ControllerPolicy) -> bool:
    """Whether its worker heartbeats on the card that we pay for."""
    return _age(machine.heartbeat_at, now) <= rules.silent_s and not gpu_mismatch(machine)


def gpu_mismatch(machine: RentedInstance) -> bool:
    """Whether the driver on the box names another card than the one rented."""
    return machine.gpu_seen is not None and machine.gpu_name not in machine.gpu_seen


def speeds_by_card(machines: Iterable[RentedInstance], rules: ControllerPolicy) -> dict[str, float]:
    """The median segments a second of each card of which enough machines have shown theirs."""
    shown: dict[str, list[float]] = {}
    for machine in machines:
        if machine.state == "working" and machine.segments_per_s > 0:
            shown.setdefault(machine.gpu_name, []).append(machine.segments_per_s)
    return {card: median(rates) for card, rates in shown.items() if len(rates) >= rules.class_size}


def is_slow(machine: RentedInstance, speeds: Mapping[str, float], rules: ControllerPolicy) -> bool:
    """Whether a machine that works now does so at less than its share of its class."""
    normal = speeds.get(machine.gpu_name)
    return normal is not None and 0 < machine.segments_per_s < rules.slow_share * normal


def is_correlated_failure(struck: Sequence[RentedInstance], alive: int, rules: ControllerPolicy) -> bool:
    """Whether so many failed together that the cause is not theirs: the account, the vendor, our own services."""
    return len(struck) >= rules.event_machines and len(struck) > rules.event_share * alive


def _age(since: datetime | None, now: datetime) -> Seconds:
    """Seconds since then; never is very long ago."""
    return (now - since).total_seconds() if since is not None else float("inf")

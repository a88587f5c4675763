"""The diagnosis of a box: what is wrong with it, if anything.

The vendor's status can only count against a box. That a box works is shown by its worker's heartbeats and videos.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median

from validation.domain import Seconds
from validation.fleet.policy import ControllerPolicy, Reason
from validation.ledger.fleet import RentedInstance
from validation.vast.listings import Instance

FATAL_MESSAGES: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"OCI runtime create failed|unsatisfied condition", re.IGNORECASE), "runtime_failed"),
    (re.compile(r"pull rate limit", re.IGNORECASE), "pull_limited"),
    (re.compile(r"manifest unknown|unauthorized|denied", re.IGNORECASE), "image_refused"),
    (re.compile(r"no space left|connection reset", re.IGNORECASE), "pull_failed"),
)
"""The vendor's messages after which a box never starts."""


def diagnose(
    box: RentedInstance, listed: Instance | None, now: datetime, policy: ControllerPolicy, *, max_usd_per_hour: float
) -> Reason | None:
    """Why a box must go, None if it may stay.

    Args:
        box: one that is renting, working or draining.
        listed: its row in a complete listing, None if it is not listed.
        now: the ledger's time.
        policy: the time-outs.
        max_usd_per_hour: the most that one box may cost.
    """
    if listed is None:
        alive = _age(box.heartbeat_at, now) < policy.heartbeat_timeout_s
        return "vanished" if box.absences >= policy.min_absences_to_close and not alive else None
    if box.quarantine_reason is not None:
        return "quarantined"
    if listed.dph_total > max_usd_per_hour:
        return "over_price"
    if listed.is_stopped and _age(box.requested_at, now) > policy.stopped_grace_s:
        return "stopped"
    is_offline = listed.actual_status in {"offline", "unknown"}
    if is_offline and _age(box.vendor_status_since, now) > policy.offline_timeout_s:
        return "lost"
    return _diagnose_start(box, listed, now, policy) if box.state == "renting" else _diagnose_work(box, now, policy)


def _diagnose_start(box: RentedInstance, listed: Instance, now: datetime, policy: ControllerPolicy) -> Reason | None:
    for pattern, reason in FATAL_MESSAGES:
        if pattern.search(listed.status_msg or ""):
            return reason
    if gpu_mismatch(box):
        return "gpu_mismatch"
    if box.heartbeat_at is not None:  # not marked ready yet: the heartbeats stopped, or a tick is due
        return "heartbeat_timeout" if _age(box.heartbeat_at, now) > policy.heartbeat_timeout_s else None
    if box.first_running_at is not None:
        return "heartbeat_timeout" if _age(box.first_running_at, now) > policy.first_heartbeat_timeout_s else None
    return "never_booted" if _age(box.requested_at, now) > box.boot_timeout_s else None


def _diagnose_work(box: RentedInstance, now: datetime, policy: ControllerPolicy) -> Reason | None:
    if gpu_mismatch(box):
        return "gpu_mismatch"
    if _age(box.heartbeat_at, now) > policy.heartbeat_timeout_s:
        return "heartbeat_timeout"
    if box.slow_since is not None and _age(box.slow_since, now) > policy.slow_timeout_s:
        return "slow"
    progress_at = max(filter(None, (box.video_completed_at, box.accepted_at)), default=None)
    if box.open_chunks and _age(progress_at, now) > policy.no_progress_timeout_s:
        return "no_progress"
    return None


def has_heartbeat(box: RentedInstance, now: datetime, policy: ControllerPolicy) -> bool:
    """Whether the box's worker sends heartbeats, on the GPU that was paid for."""
    return _age(box.heartbeat_at, now) <= policy.heartbeat_timeout_s and not gpu_mismatch(box)


def gpu_mismatch(box: RentedInstance) -> bool:
    """Whether the driver on the box names another GPU than the one rented."""
    return box.gpu_seen is not None and box.gpu_name not in box.gpu_seen


def median_speed_by_gpu(boxes: Iterable[RentedInstance], policy: ControllerPolicy) -> dict[str, float]:
    """Median segments per second of each GPU that enough boxes have."""
    speeds: dict[str, list[float]] = {}
    for box in boxes:
        if box.state == "working" and box.segments_per_s > 0:
            speeds.setdefault(box.gpu_name, []).append(box.segments_per_s)
    return {gpu: median(measured) for gpu, measured in speeds.items() if len(measured) >= policy.min_class_size}


def is_correlated_failure(failed: Sequence[RentedInstance], total: int, policy: ControllerPolicy) -> bool:
    """Whether so many boxes failed at once that the cause is common: the account, the vendor or our own services."""
    return len(failed) >= policy.min_correlated_failures and len(failed) > policy.correlated_failure_share * total


def _age(since: datetime | None, now: datetime) -> Seconds:
    """Seconds since a time; infinite for None, which stands for never."""
    return (now - since).total_seconds() if since is not None else float("inf")

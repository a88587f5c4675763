"""Rules by which a box leaves the fleet: transitions, reasons, bans, time-outs, limits, and the diagnosis of a box.

The vendor's status can show that a box fails, never that it works. Only heartbeats and videos of its worker show that.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal, TypeAlias

from validation.domain import Seconds
from validation.ledger.fleet import RentedInstance, State
from validation.vast.listings import Instance

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "requested": frozenset({"renting", "destroying", "gone"}),
    "renting": frozenset({"working", "destroying"}),
    "working": frozenset({"draining", "destroying"}),
    "draining": frozenset({"destroying"}),
    "destroying": frozenset({"destroyed"}),
    "destroyed": frozenset({"destroying", "gone"}),
    "gone": frozenset(),
}
"""The states that may follow each state of a box. The SQL function ``fleet_transitions()`` holds the same table, and
the ledger refuses any other transition."""

OCCUPYING: frozenset[State] = frozenset({"requested", "renting", "working", "draining", "destroying"})
"""States in which a box counts against the ordered number of boxes, because it bills or may bill."""

SERVING: frozenset[State] = frozenset({"requested", "renting", "working"})
"""States in which a box works or is expected to work soon."""

Reason: TypeAlias = Literal[
    # a fault of the machine or its host
    "never_booted", "pull_failed", "pull_limited", "runtime_failed", "stopped", "lost", "vanished",
    "heartbeat_timeout", "slow", "no_progress", "gpu_mismatch", "over_price", "quarantined",
    # a fault of the account or of this project, or no fault
    "image_refused", "account_event", "surplus", "dismissed", "budget", "drained", "refused", "created_but_failed",
    "never_rented", "unreachable",
]  # fmt: skip
"""The reason why a box leaves the fleet."""

HOUR_S = 3600
DAY_S = 24 * HOUR_S

BAN_S: Mapping[Reason, int] = {
    "never_booted": 3 * DAY_S,  # the line is too slow or the daemon is broken; seldom repaired on the same day
    "pull_failed": DAY_S,  # the disk is full or the line was cut; the host may repair it
    "pull_limited": 6 * HOUR_S,  # a registry limits the pulls per address and hour
    "runtime_failed": 14 * DAY_S,  # the driver is too old; an early update is unlikely
    "stopped": 6 * HOUR_S,  # the host wanted the machine back
    "lost": DAY_S,
    "vanished": DAY_S,
    "heartbeat_timeout": DAY_S,
    "slow": 14 * DAY_S,
    "no_progress": DAY_S,
    "gpu_mismatch": 30 * DAY_S,  # the machine has another GPU than the rented one
    "over_price": 7 * DAY_S,
    "quarantined": 30 * DAY_S,  # faulty memory, a faulty GPU or manipulation: these causes persist
}
"""Duration of a machine's ban in seconds, by the reason why its box left. Other reasons cause no ban."""


@dataclass(frozen=True, slots=True)
class ReconcilerPolicy:
    """Time-outs and limits of the reconciler."""

    first_heartbeat_timeout_s: Seconds = 360.0
    """Time-out from the start of a container to the first heartbeat of its worker. Models load within two minutes."""
    heartbeat_timeout_s: Seconds = 300.0
    """Time without heartbeats after which a box is destroyed. A worker sends a heartbeat every 25 s by default; the
    time-out is longer than a short outage of the ledger."""
    offline_timeout_s: Seconds = 300.0
    """Time for which the vendor may report a box as offline or unknown. Most boxes that come back do so sooner."""
    stopped_grace_s: Seconds = 30.0
    """Age up to which an instance may be listed as stopped: a new instance may be listed so for a moment."""
    no_progress_timeout_s: Seconds = 2700.0
    """Time for which a worker that holds a chunk may complete no video. A working one completes a video within
    minutes."""
    slow_share: float = 0.5
    """A box is slow if its speed is below this share of the median of its fleet's working boxes with the same GPU."""
    slow_timeout_s: Seconds = 900.0
    """Time for which a box may be slow before it is replaced."""
    min_measured_boxes: int = 3
    """Number of working boxes with the same GPU whose speed must be known before one of them can count as slow."""
    drain_timeout_s: Seconds = 900.0
    """Time for which a draining box may finish its chunks before it is destroyed."""
    listing_lag_s: Seconds = 60.0
    """Time for which a listing may still show a destroyed box. After it, the destroy is sent again."""
    min_absences_to_close: int = 2
    """Number of complete listings without a destroyed box that prove that the box is gone."""
    min_absences_never_rented: int = 3
    """Number of complete listings without a box's label that prove that its unanswered create took no effect."""

    min_correlated_failures: int = 3
    correlated_failure_share: float = 0.3
    """Failures have a common cause if at least ``min_correlated_failures`` boxes and more than this share of the
    fleet's rented boxes are stopped, or miss heartbeats, in the same tick."""
    correlated_failure_hold_s: Seconds = 600.0
    """Time for which nothing is rented after boxes were stopped together."""
    min_image_refusals: int = 3
    """The image or its registry is at fault if at least this many boxes were refused the image, and at least as many as
    pulled it."""
    image_refusal_hold_s: Seconds = 1500.0
    """Time for which a refused or successful pull counts. Nothing is rented while the refused pulls are enough."""

    min_runway_to_rent_h: float = 2.0
    """Hours for which the money must pay for the whole fleet with a new box; otherwise no box is rented."""
    min_runway_to_run_h: float = 1 / 3
    """If the money lasts for fewer hours, the boxes drain."""
    min_runway_to_drain_h: float = 1 / 6
    """If the money lasts for fewer hours, the boxes are destroyed. 100 rate-limited destroys take five minutes, and
    ticks come every two minutes."""

    max_rents_per_tick: int = 20
    """The rate limit allows one create per 4.5 s, so 20 creates take about 90 s. Ticks come every two minutes."""
    max_destroys_per_tick: int = 30


FATAL_MESSAGES: tuple[tuple[re.Pattern[str], Reason], ...] = (
    (re.compile(r"OCI runtime create failed|unsatisfied condition", re.IGNORECASE), "runtime_failed"),
    (re.compile(r"pull rate limit", re.IGNORECASE), "pull_limited"),
    (re.compile(r"manifest unknown|unauthorized|denied", re.IGNORECASE), "image_refused"),
    (re.compile(r"no space left|connection reset", re.IGNORECASE), "pull_failed"),
)
"""Patterns of the vendor's messages after which a box never starts, each with its reason."""


def diagnose(
    box: RentedInstance, listed: Instance | None, now: datetime, policy: ReconcilerPolicy, *, max_usd_per_hour: float
) -> Reason | None:
    """Return the reason why a box must leave; None if it may stay.

    Args:
        box: a box that is renting, working or draining.
        listed: the instance of the box in a complete listing; None if the listing lacks it.
        now: the ledger's time.
        policy: the time-outs and limits.
        max_usd_per_hour: the most that one box may cost, in dollars per hour.
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


def _diagnose_start(box: RentedInstance, listed: Instance, now: datetime, policy: ReconcilerPolicy) -> Reason | None:
    """Return the reason why a renting box will not start or is late; None if it may stay."""
    for pattern, reason in FATAL_MESSAGES:
        if pattern.search(listed.status_msg or ""):
            return reason
    if has_gpu_mismatch(box):
        return "gpu_mismatch"
    if box.heartbeat_at is not None:  # not marked as working yet: the heartbeats stopped, or a tick is due
        return "heartbeat_timeout" if _age(box.heartbeat_at, now) > policy.heartbeat_timeout_s else None
    if box.first_running_at is not None:
        return "heartbeat_timeout" if _age(box.first_running_at, now) > policy.first_heartbeat_timeout_s else None
    return "never_booted" if _age(box.requested_at, now) > box.boot_timeout_s else None


def _diagnose_work(box: RentedInstance, now: datetime, policy: ReconcilerPolicy) -> Reason | None:
    """Return the reason why a working or draining box must leave; None if it may stay."""
    if has_gpu_mismatch(box):
        return "gpu_mismatch"
    if _age(box.heartbeat_at, now) > policy.heartbeat_timeout_s:
        return "heartbeat_timeout"
    if box.slow_since is not None and _age(box.slow_since, now) > policy.slow_timeout_s:
        return "slow"
    progress_at = max(filter(None, (box.video_completed_at, box.accepted_at)), default=None)
    if box.open_chunks and _age(progress_at, now) > policy.no_progress_timeout_s:
        return "no_progress"
    return None


def is_ready(box: RentedInstance, now: datetime, policy: ReconcilerPolicy) -> bool:
    """Return whether a box can be marked as working: its worker sends heartbeats, and it has the rented GPU."""
    return _age(box.heartbeat_at, now) <= policy.heartbeat_timeout_s and not has_gpu_mismatch(box)


def has_gpu_mismatch(box: RentedInstance) -> bool:
    """Return whether the driver on the box reports another GPU than the rented one."""
    return box.gpu_seen is not None and box.gpu_name not in box.gpu_seen


def median_speed_by_gpu(boxes: Iterable[RentedInstance], policy: ReconcilerPolicy) -> dict[str, float]:
    """Return the median segments per second by GPU.

    A GPU is left out if fewer than ``min_measured_boxes`` working boxes with it have shown their speed.
    """
    speeds: dict[str, list[float]] = {}
    for box in boxes:
        if box.state == "working" and box.segments_per_s > 0:
            speeds.setdefault(box.gpu_name, []).append(box.segments_per_s)
    return {gpu: median(measured) for gpu, measured in speeds.items() if len(measured) >= policy.min_measured_boxes}


def is_correlated_failure(failed: Sequence[RentedInstance], total: int, policy: ReconcilerPolicy) -> bool:
    """Return whether the failures of one tick have a common cause: the account, the vendor or our services.

    ``total`` is the number of boxes that could have failed in this way. The limits are in ``policy``.
    """
    return len(failed) >= policy.min_correlated_failures and len(failed) > policy.correlated_failure_share * total


def _age(since: datetime | None, now: datetime) -> Seconds:
    """Return the seconds since a time; infinite for None, which means never."""
    return (now - since).total_seconds() if since is not None else float("inf")

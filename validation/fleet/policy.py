"""The constants of the fleet's controller: allowed transitions, reasons why boxes leave, bans, time-outs and limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from validation.domain import Seconds
from validation.ledger.fleet import State

TRANSITIONS: Mapping[State, frozenset[State]] = {
    "requested": frozenset({"renting", "destroying", "gone"}),
    "renting": frozenset({"working", "destroying"}),
    "working": frozenset({"draining", "destroying"}),
    "draining": frozenset({"destroying"}),
    "destroying": frozenset({"destroyed"}),
    "destroyed": frozenset({"destroying", "gone"}),
    "gone": frozenset(),
}
"""The states that a box may pass to. ``fleet_transitions()`` holds the same table and the ledger refuses any other."""

OCCUPYING: frozenset[State] = frozenset({"requested", "renting", "working", "draining", "destroying"})
"""States in which a box counts against the number of boxes, because it bills or may bill."""

SERVING: frozenset[State] = frozenset({"requested", "renting", "working"})
"""States in which a box works or is expected to."""

Reason: TypeAlias = Literal[
    # a fault of the machine or its host
    "never_booted", "pull_failed", "pull_limited", "runtime_failed", "stopped", "lost", "vanished",
    "heartbeat_timeout", "slow", "no_progress", "gpu_mismatch", "over_price", "quarantined",
    # a fault of the account or of this project, or no fault
    "image_refused", "account_event", "surplus", "dismissed", "budget", "drained", "refused", "created_but_failed",
    "never_rented", "unreachable",
]  # fmt: skip
"""Why a box leaves."""

HOUR_S = 3600
DAY_S = 24 * HOUR_S

BAN_S: Mapping[Reason, int] = {
    "never_booted": 3 * DAY_S,  # too slow a line or a broken daemon: seldom better the same day
    "pull_failed": DAY_S,  # disk full or line cut: the host may repair it
    "pull_limited": 6 * HOUR_S,  # a registry counts the pulls per address and hour
    "runtime_failed": 14 * DAY_S,  # a driver too old stays too old
    "stopped": 6 * HOUR_S,  # the host wanted the machine back
    "lost": DAY_S,
    "vanished": DAY_S,
    "heartbeat_timeout": DAY_S,
    "slow": 14 * DAY_S,
    "no_progress": DAY_S,
    "gpu_mismatch": 30 * DAY_S,  # another GPU than the one that was paid for
    "over_price": 7 * DAY_S,
    "quarantined": 30 * DAY_S,  # faulty memory, a faulty GPU or manipulation: neither repairs itself
}
"""Seconds for which the machine is not rented again, by the reason why its box left. Other reasons ban nothing."""


@dataclass(frozen=True, slots=True)
class ControllerPolicy:
    """Time-outs and limits of the planner, each with its reason."""

    first_heartbeat_timeout_s: Seconds = 360.0
    """From a running container to its worker's first heartbeat: models load within two minutes."""
    heartbeat_timeout_s: Seconds = 300.0
    """Heartbeats come every 30 s; a ledger that is away for a minute must not cost a box."""
    offline_timeout_s: Seconds = 300.0
    """For how long the vendor may report a box as offline or unknown: most that come back do so sooner."""
    stopped_grace_s: Seconds = 30.0
    """A new instance may be listed as stopped for a moment."""
    no_progress_timeout_s: Seconds = 2700.0
    """A worker that holds a chunk completes a video within minutes; after 45 it does not work, despite heartbeats."""
    slow_share: float = 0.5
    """Of the median speed of its GPU's class: a box below it is slow."""
    slow_timeout_s: Seconds = 900.0
    """For how long a box may be slow before it is replaced."""
    min_class_size: int = 3
    """Boxes with the same GPU that must have shown their speed before one of them can be called slow."""
    drain_timeout_s: Seconds = 900.0
    """How long a box may take to finish its chunk."""
    listing_lag_s: Seconds = 60.0
    """How long a listing may show a box after its destruction: seconds, at the vendor's."""
    min_absences_to_close: int = 2
    """Complete listings without a destroyed box that prove that it is gone."""
    min_absences_never_rented: int = 3
    """Complete listings without its label that prove that an unanswered create took no effect."""

    min_correlated_failures: int = 3
    correlated_failure_share: float = 0.3
    """So many boxes that stop, or miss heartbeats, at once have a common cause."""
    correlated_failure_hold_s: Seconds = 600.0
    """How long nothing is rented after the account stopped boxes."""
    min_image_refusals: int = 3
    """So many boxes that may not pull the image, and no more that could: the cause is the image or its registry."""
    image_refusal_hold_s: Seconds = 1500.0

    min_runway_to_rent_h: float = 2.0
    """Hours for which the money must pay the whole fleet, or nothing more is rented."""
    min_runway_to_run_h: float = 1 / 3
    """With money for fewer hours the fleet drains."""
    min_runway_to_drain_h: float = 1 / 6
    """With money for fewer hours the fleet is destroyed: 100 rate-limited destroys take five minutes, and ticks come
    every two."""

    max_rents_per_tick: int = 20
    """At 4.5 s each, a tick of renting ends before the next but one."""
    max_destroys_per_tick: int = 30

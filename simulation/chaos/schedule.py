"""What goes wrong when: a pure function of a seed."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from validation.domain import Seconds

LEASE_S = 15
"""The lease in a chaos run: a fifth of what a fleet has, so that minutes of chaos stand for many of the fleet's."""
ROUND_S: Seconds = 120.0
"""In so long every kind of fault comes once: one in seven seconds, so that most meet a fleet that others
still hurt."""
QUIET_S: Seconds = 5.0
"""Left alone at the start, for every box to have work."""


class FaultKind(StrEnum):
    """Everything that a run does to the fleet. The value is what the report calls it."""

    KILL_WORKER = "SIGKILL a worker, started again at once"
    LOSE_BOX = "SIGKILL a worker, its box away past the lease"
    DRAIN_WORKER = "SIGTERM a worker"
    HURRY_WORKER = "SIGTERM a worker twice"
    FREEZE_BOX = "SIGSTOP a box, SIGCONT within the lease"
    FREEZE_BOX_LONG = "SIGSTOP a box, SIGCONT past the lease"
    KILL_FLOW = "SIGKILL a flow process"
    STOP_FLOW = "SIGTERM a flow process"
    FREEZE_FLOW = "SIGSTOP a flow process, SIGCONT past the lease"
    KILL_HOST = "SIGKILL a model host"
    EXPIRE_LEASES = "edit the leases of a worker into the past"
    CRASH_LEDGER = "SIGKILL Postgres, started again soon"
    FREEZE_CALL = "freeze a backend amid a transaction, past the lease"
    SEVERE = "object store: resets, 503s, cut and lost answers, delays"
    HANG_STORE = "object store: accepts and does not answer"
    RESTART_PREFECT = "restart the Prefect server"
    LOSE_PREFECT = "Prefect server away for longer than its clients try"
    KILL_CONTROL = "SIGKILL the control worker"


LASTS_S: dict[FaultKind, tuple[Seconds, Seconds]] = {
    FaultKind.LOSE_BOX: (LEASE_S + 10, LEASE_S + 20),
    FaultKind.HURRY_WORKER: (0.5, 2),
    FaultKind.FREEZE_BOX: (3, LEASE_S * 0.5),
    FaultKind.FREEZE_BOX_LONG: (LEASE_S + 3, LEASE_S + 10),
    FaultKind.FREEZE_FLOW: (LEASE_S + 3, LEASE_S + 10),
    FaultKind.CRASH_LEDGER: (2, LEASE_S * 0.5),
    FaultKind.FREEZE_CALL: (LEASE_S + 3, LEASE_S + 10),
    FaultKind.LOSE_PREFECT: (38, 42),
    FaultKind.SEVERE: (6, 12),
    FaultKind.HANG_STORE: (3, 6),
}
"""Least and most that a fault lasts; those not named are over when they have struck."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault to come."""

    at_s: Seconds
    """From the start of the run."""
    kind: FaultKind
    box: int
    """Which box it strikes, where it strikes one."""
    lasts_s: Seconds

    @property
    def over_s(self) -> Seconds:
        return self.at_s + self.lasts_s


def plan_faults(seed: int, *, duration_s: Seconds, boxes: int) -> list[PlannedFault]:
    """Plan a run: every kind of fault once a round, in an order and at moments that the seed decides.

    A run shorter than a round does without ``LOSE_PREFECT``, which would leave it no work to strike.

    Args:
        seed: equal seeds make equal plans.
        duration_s: when the last fault is over; the first comes after ``QUIET_S``.
        boxes: how many there are to strike.

    Returns:
        Faults in the order of their time; all over before ``duration_s``.
    """
    random = Random(seed)  # noqa: S311 - a plan that can be repeated is the point
    rounds = max(1, round(duration_s / ROUND_S))
    round_kinds = [kind for kind in FaultKind if kind != FaultKind.LOSE_PREFECT or duration_s >= ROUND_S]
    kinds = [kind for _ in range(rounds) for kind in random.sample(round_kinds, len(round_kinds))]
    gap_s = (duration_s - QUIET_S) / len(kinds)
    return sorted(
        (
            _plan(random, kind, QUIET_S + gap_s * (place + random.random()), duration_s, boxes)
            for place, kind in enumerate(kinds)
        ),
        key=lambda fault: fault.at_s,
    )


def _plan(random: Random, kind: FaultKind, at_s: Seconds, duration_s: Seconds, boxes: int) -> PlannedFault:
    lasts_s = random.uniform(*LASTS_S.get(kind, (0, 0)))
    return PlannedFault(min(at_s, duration_s - lasts_s), kind, random.randrange(boxes), lasts_s)

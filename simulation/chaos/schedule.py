"""The schedule of faults: a pure function of a seed."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from validation.domain import Seconds

LEASE_S = 15
"""The lease in a chaos run: a fifth of production's, so that a run of minutes covers many leases."""
ROUND_S: Seconds = 120.0
"""Every kind of fault comes once per round: one fault per seven seconds, so that effects overlap."""
START_DELAY_S: Seconds = 5.0
"""Time without faults at the start, so that every box has work."""


class FaultKind(StrEnum):
    """The kinds of fault. The value is the report's text."""

    KILL_WORKER = "SIGKILL a worker, started again at once"
    LOSE_BOX = "SIGKILL a worker, its box away past the lease"
    DRAIN_WORKER = "SIGTERM a worker"
    HURRY_WORKER = "SIGTERM a worker twice"
    FREEZE_BOX = "SIGSTOP a box, SIGCONT within the lease"
    FREEZE_BOX_LONG = "SIGSTOP a box, SIGCONT past the lease"
    KILL_FLOW = "SIGKILL a flow process"
    STOP_FLOW = "SIGTERM a flow process"
    FREEZE_FLOW = "SIGSTOP a flow process, SIGCONT past the lease"
    KILL_INFERENCE_SERVER = "SIGKILL an inference server"
    EXPIRE_LEASES = "edit the leases of a worker into the past"
    CRASH_LEDGER = "SIGKILL Postgres, started again soon"
    FREEZE_CALL = "freeze a backend during a transaction, past the lease"
    SEVERE = "object store: resets, 503s, truncated and lost responses, delays"
    HANG_STORE = "object store: accepts connections and does not respond"
    RESTART_PREFECT = "restart the Prefect server"
    LOSE_PREFECT = "Prefect server away for longer than its clients try"
    KILL_CONTROL = "SIGKILL the control worker"


DURATION_S: dict[FaultKind, tuple[Seconds, Seconds]] = {
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
"""Shortest and longest duration per kind; other kinds are instantaneous."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One planned fault."""

    at_s: Seconds
    """From the start of the run."""
    kind: FaultKind
    box: int
    """The index of the box, for faults of a box."""
    duration_s: Seconds


def plan_faults(seed: int, *, duration_s: Seconds, boxes: int) -> list[PlannedFault]:
    """Plan a run: every kind of fault once per round, in an order and at times that the seed decides.

    A run shorter than a round leaves out ``LOSE_PREFECT``, which would leave no work for other faults.

    Args:
        seed: equal seeds make equal plans.
        duration_s: the length of the run; the last fault ends before it, and the first comes after ``START_DELAY_S``.
        boxes: the number of boxes.

    Returns:
        Faults in the order of their time; all end before ``duration_s``.
    """
    random = Random(seed)  # noqa: S311 - a plan that can be repeated is the point
    rounds = max(1, round(duration_s / ROUND_S))
    round_kinds = [kind for kind in FaultKind if kind != FaultKind.LOSE_PREFECT or duration_s >= ROUND_S]
    kinds = [kind for _ in range(rounds) for kind in random.sample(round_kinds, len(round_kinds))]
    gap_s = (duration_s - START_DELAY_S) / len(kinds)
    return sorted(
        (
            _plan(random, kind, START_DELAY_S + gap_s * (number + random.random()), duration_s, boxes)
            for number, kind in enumerate(kinds)
        ),
        key=lambda fault: fault.at_s,
    )


def _plan(random: Random, kind: FaultKind, at_s: Seconds, run_s: Seconds, boxes: int) -> PlannedFault:
    duration_s = random.uniform(*DURATION_S.get(kind, (0, 0)))
    return PlannedFault(min(at_s, run_s - duration_s), kind, random.randrange(boxes), duration_s)

"""Plan the faults of a chaos run. The plan depends only on the seed and on the size of the run."""

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from validation.domain import Seconds

LEASE_S = 15
"""Seconds of a lease in a chaos run. It is a fifth of the lease in production, so that a short run has many leases."""
ROUND_S: Seconds = 120.0
"""Seconds of a round, in which every kind of fault is injected once: about one fault per seven seconds, so that the
effects of faults overlap."""
START_DELAY_S: Seconds = 5.0
"""Seconds without faults at the start of a run, so that every box has work before the first fault."""


class FaultKind(StrEnum):
    """The kinds of fault. The value of a kind is its description in the report."""

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
"""Shortest and longest duration of each kind of fault, in seconds. Other kinds are instantaneous."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault with its planned time, target and duration."""

    at_s: Seconds
    """Seconds from the start of the run."""
    kind: FaultKind
    box: int
    """The index of the box on which a target is searched first. Faults of servers ignore it."""
    duration_s: Seconds


def plan_faults(seed: int, *, duration_s: Seconds, boxes: int) -> list[PlannedFault]:
    """Plan the faults of a run: every kind of fault once per round, in random order and at random times.

    A run shorter than a round leaves out ``LOSE_PREFECT``, which would leave no work for other faults.

    Args:
        seed: the seed of the plan; equal seeds give equal plans.
        duration_s: the length of the run. The first fault starts after ``START_DELAY_S``.
        boxes: the number of boxes.

    Returns:
        The faults in the order of their times. All faults end by ``duration_s``.
    """
    random = Random(seed)  # noqa: S311 - the plan must be reproducible
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

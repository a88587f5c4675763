"""Plan how many flow runs to create: no slot waits for one, and no queue of runs builds up."""

from math import ceil

from validation.domain import Seconds
from validation.ledger.queries import Workload

PERIODS = 2
"""Runs wait for as many periods of the dispatcher as it may be late: it may miss one."""
MIN_SPARE = 0.2
"""Waiting runs per slot, at least. A worker finds one when it ends a chunk; a poll of 200 waiting runs costs the
Prefect server 50 ms, and no poll reads more."""


def plan_runs(workload: Workload, *, active_runs: int, chunk_videos: int, period_s: Seconds) -> int:
    """How many runs to create now: what the online slots hold and finish in two periods, and never more than chunks.

    Args:
        workload: what is left to do, how many chunks could be processed now, and how long one takes.
        active_runs: runs of the deployment that are scheduled, pending or running.
        chunk_videos: videos that one run claims.
        period_s: time between two dispatches.
    """
    chunks_left = count_chunks(workload, chunk_videos) + workload.open_chunks
    needed = min(workload.slots_online + count_spare(workload, period_s), chunks_left)
    return max(needed - active_runs, 0)


def count_spare(workload: Workload, period_s: Seconds) -> int:
    """How many runs should wait: what the slots finish in two periods. One per slot while no chunk was measured."""
    if workload.chunk_s is None:
        return workload.slots_online
    per_slot = PERIODS * period_s / max(workload.chunk_s, 1.0)
    return ceil(workload.slots_online * max(per_slot, MIN_SPARE))


def count_chunks(workload: Workload, chunk_videos: int) -> int:
    """How many chunks the claimable videos make: crash suspects are claimed in smaller ones (pick_crash_suspects)."""
    without_crash = workload.claimable_videos - workload.suspects - workload.isolated_suspects
    suspects_per_chunk = max(chunk_videos // 5, 1)
    return (
        ceil(without_crash / chunk_videos) + ceil(workload.suspects / suspects_per_chunk) + workload.isolated_suspects
    )

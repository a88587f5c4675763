"""Plan how many flow runs to create: no slot waits for one, and no queue of runs builds up."""

from math import ceil

from validation.ledger.queries import Workload

RUNS_PER_SLOT = 1.2
"""Runs waiting or running per chunk that the online workers can hold. The fifth in excess is what a worker finds
waiting when it ends a chunk; polls stay cheap (a poll of 200 waiting runs costs the Prefect server 50 ms)."""


def plan_runs(workload: Workload, *, active_runs: int, chunk_videos: int) -> int:
    """How many runs to create now: at most as many as the online slots need, and as there are chunks left.

    Args:
        workload: what is left to do, and how many chunks could be processed now.
        active_runs: runs of the deployment that are scheduled, pending or running.
        chunk_videos: videos that one run claims.
    """
    chunks_left = count_chunks(workload, chunk_videos) + workload.open_chunks
    needed = min(ceil(workload.slots_online * RUNS_PER_SLOT), chunks_left)
    return max(needed - active_runs, 0)


def count_chunks(workload: Workload, chunk_videos: int) -> int:
    """How many chunks the claimable videos make: crash suspects are claimed in smaller ones (pick_crash_suspects)."""
    without_crash = workload.claimable_videos - workload.suspects - workload.isolated_suspects
    suspects_per_chunk = max(chunk_videos // 5, 1)
    return (
        ceil(without_crash / chunk_videos) + ceil(workload.suspects / suspects_per_chunk) + workload.isolated_suspects
    )

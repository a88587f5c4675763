"""How many flow runs to create, so that no worker waits and no queue of runs builds up."""

from math import ceil

from validation.ledger.queries import Workload

RUNS_PER_SLOT = 1.2
"""Runs waiting or running for each chunk that the workers online can hold. A fifth more than they need: a worker that
ends a chunk finds the next one waiting, and polls stay cheap (a poll of 200 waiting runs costs the server 50 ms)."""


def plan_runs(workload: Workload, *, active_runs: int, chunk_videos: int) -> int:
    """How many runs to create now.

    Args:
        workload: what there is to do and who is there to do it.
        active_runs: runs of the deployment that are scheduled, pending or running.
        chunk_videos: videos a run claims.

    Returns:
        None too many: no more runs than the slots online call for, nor than there are chunks left.
    """
    chunks_left = count_chunks(workload, chunk_videos) + workload.open_chunks
    wanted = min(ceil(workload.slots_online * RUNS_PER_SLOT), chunks_left)
    return max(wanted - active_runs, 0)


def count_chunks(workload: Workload, chunk_videos: int) -> int:
    """How many chunks the claimable videos make: suspects of a crash travel in smaller ones (pick_crash_suspects)."""
    fresh = workload.claimable_videos - workload.suspects - workload.isolated_suspects
    small = max(chunk_videos // 5, 1)
    return ceil(fresh / chunk_videos) + ceil(workload.suspects / small) + workload.isolated_suspects

"""Plan how many flow runs to create, so that no worker waits for a run and few runs wait for a worker."""

from math import ceil

from validation.domain import Seconds
from validation.ledger.queries import Workload

CHUNK_DEPLOYMENT = "validate-chunk"
CONTROL_DEPLOYMENT = "operate-fleet"
"""The scheduled control deployment; the other control deployments are run by hand."""
CONTROL_DEPLOYMENTS = (
    CONTROL_DEPLOYMENT,
    "dispatch-chunks",
    "sweep-stale-claims",
    "reconcile-fleet",
    "report-progress",
    "check-alerts",
)
"""Names of all control deployments in prefect.yaml."""
PERIODS = 2
"""Number of dispatch periods for which the waiting runs are enough. With two, one dispatch may fail unnoticed."""
MIN_SPARE = 0.2
"""Minimum number of waiting runs per slot, so that a worker finds a run when it ends a chunk.

Here a slot is one flow run that an online worker can execute (`Workload.slots_online`), not a slot of a fleet.

Each poll of a worker reads up to 200 waiting runs, which takes the Prefect server 50 ms."""


def plan_runs(workload: Workload, *, active_runs: int, chunk_videos: int, period_s: Seconds) -> int:
    """Return how many runs to create now.

    The online workers need one run per slot, plus the waiting runs of `count_spare_runs`. More runs than chunks that
    are left are never needed. The runs that exist already are subtracted.

    Args:
        workload: the videos that are left, the slots of the online workers, and the mean time per chunk.
        active_runs: runs of the deployment that are scheduled, pending or running.
        chunk_videos: videos that one run claims.
        period_s: seconds between two dispatches.
    """
    chunks_left = count_claimable_chunks(workload, chunk_videos) + workload.open_chunks
    needed = min(workload.slots_online + count_spare_runs(workload, period_s), chunks_left)
    return max(needed - active_runs, 0)


def count_spare_runs(workload: Workload, period_s: Seconds) -> int:
    """Return how many runs should wait for a worker: those that the slots finish in two periods, at least 0.2 per slot.

    If no chunk was committed in the last half hour, the time per chunk is unknown: then return one run per slot.
    """
    if workload.chunk_s is None:
        return workload.slots_online
    per_slot = PERIODS * period_s / max(workload.chunk_s, 1.0)
    return ceil(workload.slots_online * max(per_slot, MIN_SPARE))


def count_claimable_chunks(workload: Workload, chunk_videos: int) -> int:
    """Return how many chunks the claimable videos will fill.

    Videos with a crash are claimed in smaller chunks (sql/functions/pick_crash_suspects.sql).
    """
    without_crash = workload.claimable_videos - workload.suspects - workload.isolated_suspects
    suspects_per_chunk = max(chunk_videos // 5, 1)
    return (
        ceil(without_crash / chunk_videos) + ceil(workload.suspects / suspects_per_chunk) + workload.isolated_suspects
    )

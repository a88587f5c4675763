"""What people read in the Prefect UI."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from validation.domain import ChunkClaim
from validation.worker.chunk.context import ChunkContext, LeasedChunk


def name_after_claim(claim: ChunkClaim) -> None:
    """Rename the run after what it holds: worker, shard number, count. A name that cannot be given is done without."""
    name = f"{claim.worker_id} · shard {claim.shard_number:04d} · {len(claim.videos)} videos"
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("this run keeps its name, it holds %s: %s", name, error)


def describe_outcome(held: LeasedChunk) -> str:
    """One sentence on what became of a chunk."""
    done = held.work.progress()
    back = len(held.work.claim.videos) - done.videos_validated - done.videos_failed
    drained = " Drained on request." if held.work.draining() else ""
    return (
        f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed, "
        f"{back} returned.{drained}"
    )


def describe_no_claim(session: ChunkContext) -> str:
    """Say why a run has no chunk."""
    why = "this worker takes no new chunk, it drains" if session.draining() else "no transcribed video is waiting"
    return f"Nothing to claim: {why}."

"""Names and sentences of a chunk's flow run, as the Prefect UI shows them."""

from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from validation.domain import ChunkClaim
from validation.errors import BadInput
from validation.settings import load_settings
from validation.worker.chunk.context import ChunkContext, LeasedChunk


def name_before_claim() -> str:
    """The name of a flow run that has no chunk yet: its worker's. A run that fails before its claim keeps it."""
    try:
        return f"{load_settings().worker_id} · no chunk yet"
    except BadInput:  # the flow itself will say which setting is wrong
        return "no chunk yet"


def name_after_claim(claim: ChunkClaim) -> None:
    """Rename the flow run after its chunk: worker, shard number, videos. A failure to rename is logged only."""
    name = f"{claim.worker_id} · shard {claim.shard_number:04d} · {len(claim.videos)} videos"
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), name=name)
    except (httpx.HTTPError, PrefectException) as error:
        get_run_logger().warning("this flow run could not be renamed to %s: %s", name, error)


def describe_outcome(chunk: LeasedChunk) -> str:
    """One sentence on the outcome of a chunk."""
    done = chunk.runner.progress()
    back = len(chunk.runner.claim.videos) - done.videos_validated - done.videos_failed
    drained = " Drained on request." if chunk.runner.draining() else ""
    return (
        f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed, "
        f"{back} returned.{drained}"
    )


def describe_no_claim(context: ChunkContext) -> str:
    """Say why a run has no chunk."""
    why = "this worker takes no new chunk, it drains" if context.draining() else "no transcribed video is waiting"
    return f"Nothing to claim: {why}."

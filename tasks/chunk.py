"""The steps of a chunk as Prefect tasks. Each may be repeated: the chunk keeps what an attempt achieved."""

from uuid import UUID

from prefect import task

from tasks.policy import FINAL_STEPS, POLICY
from validation.domain import ChunkClaim, ShardReceipt
from validation.worker.chunk.context import ChunkContext, LeasedChunk
from validation.worker.chunk.runner import GroupReport


@task(name="claim-chunk", task_run_name="claim up to {size} videos", **POLICY)
def claim_chunk(
    context: ChunkContext, chunk_id: UUID, *, flow_run_id: UUID, size: int, languages: list[str]
) -> ChunkClaim | None:
    """Claim videos under a token drawn beforehand, so that a retry finds the claim whose answer was lost."""
    return context.claim(chunk_id, flow_run_id=flow_run_id, size=size, languages=languages)


@task(name="fetch-group", task_run_name="fetch group {number}", **POLICY)
def fetch_group(chunk: LeasedChunk, number: int) -> GroupReport:
    """Download and decode a group of videos; a retry fetches only the missing ones."""
    return chunk.runner.fetch_group(number)


@task(name="score-group", task_run_name="score group {number}", **POLICY)
def score_group(chunk: LeasedChunk, number: int) -> GroupReport:
    """Score a group of videos; a retry scores only the videos without rows."""
    return chunk.runner.score_group(number, ensure_held=chunk.lease.ensure_held)


@task(name="write-shard", task_run_name="write shard", **FINAL_STEPS)
def write_shard(chunk: LeasedChunk) -> ShardReceipt | None:
    """Encode the rows and upload them once; a retry accepts the same bytes in the store."""
    encoded = chunk.write_shard()
    return encoded.receipt if encoded else None


@task(name="commit-chunk", task_run_name="commit", **FINAL_STEPS)
def commit_chunk(chunk: LeasedChunk) -> None:
    """Close the chunk in the ledger; a retry of a commit that arrived changes nothing."""
    chunk.commit()

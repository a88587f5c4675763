"""The steps of a chunk. Each may be repeated: what an attempt achieved is kept by the chunk that it is handed."""

from uuid import UUID

from prefect import task

from tasks.policy import FINAL_STEPS, POLICY
from validation.domain import ChunkClaim, ShardReceipt
from validation.worker.chunk.context import ChunkContext, LeasedChunk
from validation.worker.chunk.runner import GroupReport


@task(name="claim-chunk", task_run_name="claim up to {size} videos", **POLICY)
def claim_chunk(
    session: ChunkContext, chunk_id: UUID, *, flow_run_id: UUID, size: int, languages: list[str]
) -> ChunkClaim | None:
    """Claim videos under a token drawn beforehand, so that a retry finds the claim whose answer was lost."""
    return session.claim(chunk_id, flow_run_id=flow_run_id, size=size, languages=languages)


@task(name="fetch-group", task_run_name="fetch group {number}", **POLICY)
def fetch_group(held: LeasedChunk, number: int) -> GroupReport:
    """Download and decode a group of videos; a retry fetches only what is still lacking."""
    return held.work.fetch_group(number)


@task(name="score-group", task_run_name="score group {number}", **POLICY)
def score_group(held: LeasedChunk, number: int) -> GroupReport:
    """Ask the models about a group of videos; a retry scores only what has no rows yet."""
    return held.work.score_group(number, check=held.lease.require)


@task(name="write-shard", task_run_name="write shard", **FINAL_STEPS)
def write_shard(held: LeasedChunk) -> ShardReceipt | None:
    """Encode what was scored and upload it once; a retry finds its own bytes there and is content."""
    encoded = held.write_shard()
    return encoded.receipt if encoded else None


@task(name="commit-chunk", task_run_name="commit", **FINAL_STEPS)
def commit_chunk(held: LeasedChunk) -> None:
    """Close the chunk in the ledger; a retry of a commit that arrived changes nothing."""
    held.commit()

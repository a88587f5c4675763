"""Flows that stand for a chunk's flow: they hold a real claim, or end with an error."""

from threading import Event
from uuid import uuid4

from prefect import flow
from prefect.runtime import flow_run

from validation.domain import ShardReceipt
from validation.ledger.chunks import claim_chunk, commit_chunk
from validation.ledger.engine import open_engine
from validation.settings import load_settings
from validation.shards.naming import shard_key
from validation.worker.chunk.errors import SourceMismatch, report_outcome
from validation.worker.chunk.open import drain_requested


@flow
def hold_chunk(*, stubborn: bool = False) -> str:
    """Hold a chunk until the worker drains, then commit its first video. ``stubborn`` ignores the drain."""
    settings = load_settings()
    engine = open_engine(settings.database_url.get_secret_value())
    claim = claim_chunk(
        engine,
        chunk_id=uuid4(),
        worker_id=settings.worker_id,
        flow_run_id=flow_run.id,
        size=2,
        lease_s=60,
        suite="local",
    )
    if claim is None:
        return "nothing to hold"
    while stubborn or not drain_requested():
        Event().wait(0.05)
    shard = ShardReceipt(
        shard_key(claim.worker_id, claim.shard_number), "0" * 64, size_bytes=1, segments=3, suite="local"
    )
    commit_chunk(
        engine, claim.chunk_id, shard=shard, validated={claim.videos[0].video_id: 3}, failed=[], max_attempts=3
    )
    return "drained after 1 of 2 videos"


@flow
def refuse_chunk() -> None:
    """End with the error of a chunk of which no video has an object in the source store."""
    with report_outcome():
        raise SourceMismatch("c", 50, "v0000.tar is missing")

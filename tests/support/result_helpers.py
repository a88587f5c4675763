"""Commit results to the ledger, and read which shard is current."""

from tests.support.ledger_helpers import claim, shard
from validation.domain import ChunkClaim, ShardReceipt
from validation.ledger.chunks import commit_chunk
from validation.ledger.queries import audit_ledger, read_committed_shards, read_segment_counts
from validation.shards.naming import shard_key

ONE, TWO, THREE = (shard_key("ann", number) for number in (1, 2, 3))
"""The keys of the shards of ann's first three chunks."""
OLD, NEW = {"ear": "1", "nose": "1"}, {"ear": "1", "nose": "2"}


def receipt(name: str, models=OLD, suite: str = "tiny", *, of: ChunkClaim | None = None) -> ShardReceipt:
    committed = shard(name, of=of)
    return ShardReceipt(committed.key, committed.sha256, committed.size_bytes, committed.segments, suite, models=models)


def validate(engine, name: str, *, models=OLD, suite: str = "tiny", size: int = 50, worker_id: str = "ann"):
    chunk = claim(engine, worker_id=worker_id, size=size)
    videos = {video.video_id: 3 for video in chunk.videos}
    committed = receipt(name, models, suite, of=chunk)
    commit_chunk(engine, chunk.chunk_id, shard=committed, validated=videos, failed=(), max_attempts=3)
    return chunk


def violated_invariants(engine):
    return [check for check in audit_ledger(engine) if check.violations]


def current(engine):
    """Return the shard key of each video, suite and revision."""
    held = read_segment_counts(engine)
    return {
        (video, committed.suite, committed.revision): committed.shard_key
        for committed in read_committed_shards(engine)
        for video in held[committed.shard_key].keys() - set(committed.superseded)
    }

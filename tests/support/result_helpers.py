"""What tests of committed results do over and over."""

from tests.support.ledger_helpers import claim, shard
from validation.domain import ChunkClaim, ShardReceipt
from validation.ledger.chunks import commit_chunk
from validation.ledger.queries import audit_ledger, read_committed_shards, read_shard_segments
from validation.shards.naming import shard_key

ONE, TWO, THREE = (shard_key("ann", number) for number in (1, 2, 3))
"""Where the shards of ann's first three chunks lie."""
OLD, NEW = {"ear": "1", "nose": "1"}, {"ear": "1", "nose": "2"}


def receipt(name: str, models=OLD, suite: str = "tiny", *, of: ChunkClaim | None = None) -> ShardReceipt:
    made = shard(name, of=of)
    return ShardReceipt(made.key, made.sha256, made.size_bytes, made.segments, suite, models=models)


def validate(engine, name: str, *, models=OLD, suite: str = "tiny", size: int = 50, worker_id: str = "ann"):
    chunk = claim(engine, worker_id=worker_id, size=size)
    videos = {video.video_id: 3 for video in chunk.videos}
    made = receipt(name, models, suite, of=chunk)
    commit_chunk(engine, chunk.chunk_id, shard=made, validated=videos, failed=(), max_attempts=3)
    return chunk


def broken_laws(engine):
    return [law for law in audit_ledger(engine) if law.violations]


def current(engine):
    """Where each video is to be read, by suite and revision."""
    held = read_shard_segments(engine)
    return {
        (video, committed.suite, committed.revision): committed.shard_key
        for committed in read_committed_shards(engine)
        for video in held[committed.shard_key].keys() - set(committed.superseded)
    }

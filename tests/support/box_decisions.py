"""A box that fails or validates everything that it claims."""

from sqlalchemy import Engine

from tests.support.ledger_helpers import claim, shard
from validation.domain import ChunkClaim, VideoFailure
from validation.ledger.chunks import commit_chunk


def fail(engine: Engine, name: str, *, size: int = 50, languages: tuple[str, ...] = (), **options) -> ChunkClaim | None:
    """Claim as this box and fail every video; returns the chunk, None if there was nothing to claim."""
    chunk = claim(engine, worker_id=name, size=size, languages=languages)
    if chunk is not None:
        given = {"transient": False} | options
        failed = [VideoFailure(video.video_id, "it is torn", **given) for video in chunk.videos]
        commit_chunk(engine, chunk.chunk_id, shard=None, validated={}, failed=failed, max_attempts=3, backoff_s=3600)
    return chunk


def validate(engine: Engine, name: str, *, size: int = 50, languages: tuple[str, ...] = ()) -> ChunkClaim:
    """Claim as this box and validate every video."""
    chunk = claim(engine, worker_id=name, size=size, languages=languages)
    validated = {video.video_id: 1 for video in chunk.videos}
    commit_chunk(engine, chunk.chunk_id, shard=shard(of=chunk), validated=validated, failed=[], max_attempts=3)
    return chunk

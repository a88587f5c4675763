"""Bring ledger and bucket together again, after the ledger was restored from a backup or objects were lost.

A ledger that was restored lacks the last commits: their shards are in the bucket with their manifests, and are recorded
again. A ledger that names a shard whose object is missing or has other bytes requeues the videos of that shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.audit import ORPHAN_MARGIN, check_shards, find_strays
from validation.errors import BadInput, Permanent
from validation.ledger.maintenance import (
    compact_shards,
    find_unknown_videos,
    restore_shard,
    sweep_stale_claims,
    withdraw_shard,
)
from validation.ledger.queries import CommittedShard, read_open_chunks
from validation.ledger.rpc import CompactionConflict
from validation.shards.manifest import ShardManifest, read_manifest
from validation.shards.naming import parse_shard_key
from validation.shards.reader import verify_shard
from validation.shards.schema import ShardCorrupt
from validation.storage.store import get_bytes

MAX_PASSES = 3
"""A shard that was withdrawn may make an older one current, whose object is checked in the next pass."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What the repair did about one shard, or would do without ``dry_run``."""

    shard_key: str
    action: Literal["restored", "withdrawn", "left"]
    """Recorded again; taken out of the ledger; or left alone, because it cannot be restored."""
    videos: int
    """Videos that became validated, or that went back to the queue."""
    reason: str


class ChunksOpen(BadInput):
    """Workers hold chunks: a repair beside them could requeue what they are about to commit."""

    def __init__(self, workers: Sequence[str]) -> None:
        self.workers = tuple(workers)
        super().__init__(
            f"chunks are open ({', '.join(self.workers[:5])}): drain the fleet and pause dispatch, then try again"
        )


def repair(engine: Engine, results: ObjectStore, *, dry_run: bool = False) -> Iterator[Repair]:
    """Restore the shards that the ledger does not know, then withdraw those that the bucket does not have.

    Yields what was done per shard, or with ``dry_run`` what would be. Repeating it does nothing more.

    Raises:
        ChunksOpen: a worker holds a chunk.
    """
    if not dry_run:
        sweep_stale_claims(engine)
    if held := [chunk for chunk in read_open_chunks(engine) if not dry_run or chunk.lease_left_s > 0]:
        raise ChunksOpen(sorted({chunk.worker_id for chunk in held}))
    strays = find_strays(engine, results, margin=-ORPHAN_MARGIN)  # however young, and whatever the clocks say
    for key in (*strays.unknown, *strays.complete):
        yield _restore(engine, results, key, dry_run=dry_run)
    for _ in range(1 if dry_run else MAX_PASSES):
        withdrawn = list(_withdraw_lost(engine, results, dry_run=dry_run))
        yield from withdrawn
        if not withdrawn:
            return


def _restore(engine: Engine, results: ObjectStore, key: str, *, dry_run: bool) -> Repair:
    try:
        manifest = read_manifest(results, key)
        verify_shard(get_bytes(results, key), manifest)
        videos = {video.video_id: video.segments for video in manifest.videos}
        if unknown := find_unknown_videos(engine, list(videos)):
            return Repair(key, "left", 0, f"the queue does not have {unknown[0]}: it belongs to another ledger")
        record = partial(_record_compacted if manifest.sources else _record_chunk, engine, manifest, videos)
        count = len(videos) if dry_run else record()
    except (Permanent, CompactionConflict) as error:
        return Repair(key, "left", 0, str(error))
    return Repair(key, "restored", count, "it is in the bucket and was not in the ledger")


def _record_chunk(engine: Engine, manifest: ShardManifest, videos: dict[str, int]) -> int:
    parsed, provenance = parse_shard_key(manifest.key), manifest.provenance
    if parsed is None or parsed[0] != provenance.worker_id:
        raise ShardCorrupt(manifest.key, "manifest", expected="its own worker's key", found=provenance.worker_id)
    worker_id, number = parsed
    return restore_shard(
        engine, manifest.receipt, chunk_id=provenance.chunk_id, worker_id=worker_id, number=number, videos=videos
    )


def _record_compacted(engine: Engine, manifest: ShardManifest, videos: dict[str, int]) -> int:
    compact_shards(engine, manifest.receipt, sources=manifest.sources, videos=videos)
    return 0  # its videos were validated before, by its sources


def _withdraw_lost(engine: Engine, results: ObjectStore, *, dry_run: bool) -> Iterator[Repair]:
    for shard, problem in check_shards(engine, results):
        if problem is not None:
            count = _count_current(shard) if dry_run else withdraw_shard(engine, shard.shard_key, reason=problem)
            yield Repair(shard.shard_key, "withdrawn", count, problem)


def _count_current(shard: CommittedShard) -> int:
    return shard.videos_validated - len(shard.superseded)

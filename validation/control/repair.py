"""Repair differences between ledger and bucket, after the ledger was restored from a backup or objects were lost.

A restored ledger lacks the last commits. The shards of these commits are in the bucket with their manifests, and are
recorded again. If the object of a committed shard is missing or altered, the videos of that shard are requeued.
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
"""Maximum passes of a repair. A withdrawn shard may make an older shard current, which the next pass checks."""


@dataclass(frozen=True, slots=True)
class Repair:
    """The action of the repair for one shard; with ``dry_run``, the action that it would take."""

    shard_key: str
    action: Literal["restored", "withdrawn", "left"]
    """The shard was recorded again, was removed from the ledger, or was left alone because it cannot be restored."""
    videos: int
    """Number of videos that became validated or were requeued. With ``dry_run`` it is an upper bound.

    A restored compacted shard counts 0 videos, because they became validated with its sources."""
    reason: str


class ChunksOpen(BadInput):
    """Workers hold chunks. A repair could requeue videos that these workers are about to commit."""

    def __init__(self, workers: Sequence[str]) -> None:
        self.workers = tuple(workers)
        super().__init__(
            f"chunks are open ({', '.join(self.workers[:5])}): drain the fleet and pause dispatch, then try again"
        )


def repair(engine: Engine, results: ObjectStore, *, dry_run: bool = False) -> Iterator[Repair]:
    """Restore the shards that the ledger does not know, then withdraw the shards whose object is missing or altered.

    Before, chunks of dead holders are taken back (``sweep_stale_claims``). Yields one ``Repair`` per unknown, missing
    or altered shard. With ``dry_run`` nothing is changed.

    Raises:
        ChunksOpen: a worker holds a chunk.
    """
    if not dry_run:
        sweep_stale_claims(engine)
    if held := [chunk for chunk in read_open_chunks(engine) if not dry_run or chunk.lease_left_s > 0]:
        raise ChunksOpen(sorted({chunk.worker_id for chunk in held}))
    strays = find_strays(engine, results, margin=-ORPHAN_MARGIN)  # objects of any age: the clocks may differ
    for key in (*strays.unknown, *strays.complete):
        yield _restore(engine, results, key, dry_run=dry_run)
    for _ in range(1 if dry_run else MAX_PASSES):
        withdrawn = list(_withdraw_lost(engine, results, dry_run=dry_run))
        yield from withdrawn
        if not withdrawn:
            return


def _restore(engine: Engine, results: ObjectStore, key: str, *, dry_run: bool) -> Repair:
    """Record a shard of the bucket in the ledger, if shard and manifest agree and the queue has all of its videos."""
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
    """Record a chunk's shard in the ledger. Returns the number of videos that became validated."""
    parsed, provenance = parse_shard_key(manifest.key), manifest.provenance
    if parsed is None or parsed[0] != provenance.worker_id:
        raise ShardCorrupt(manifest.key, "manifest", expected="its own worker's key", found=provenance.worker_id)
    worker_id, number = parsed
    return restore_shard(
        engine, manifest.receipt, chunk_id=provenance.chunk_id, worker_id=worker_id, number=number, videos=videos
    )


def _record_compacted(engine: Engine, manifest: ShardManifest, videos: dict[str, int]) -> int:
    """Record a compacted shard in the ledger in place of its sources. Returns 0."""
    compact_shards(engine, manifest.receipt, sources=manifest.sources, videos=videos)
    return 0  # the videos became validated with the source shards


def _withdraw_lost(engine: Engine, results: ObjectStore, *, dry_run: bool) -> Iterator[Repair]:
    """Withdraw each committed shard that is missing or altered. Yields one ``Repair`` per such shard."""
    for shard, problem in check_shards(engine, results):
        if problem is not None:
            count = _count_current(shard) if dry_run else withdraw_shard(engine, shard.shard_key, reason=problem)
            yield Repair(shard.shard_key, "withdrawn", count, problem)


def _count_current(shard: CommittedShard) -> int:
    """Return the number of videos whose current result is in a shard."""
    return shard.videos_validated - len(shard.superseded)

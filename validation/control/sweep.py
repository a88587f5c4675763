"""Take back what dead holders held, and clear away what they left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.corpus.store import delete_object, list_objects
from validation.ledger.protocol import (
    SweptChunk,
    flag_silent_workers,
    release_stranded_videos,
    sweep_stale_claims,
)
from validation.ledger.views import read_committed_shards, read_open_chunks, read_retired_shards
from validation.shards.naming import manifest_key, shard_key

ORPHAN_MARGIN = timedelta(hours=1)
"""How old an object must be before it can be an orphan. Longer than any clock of a store is wrong."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep did."""

    swept: Sequence[SweptChunk]
    stranded_videos: int
    silent_workers: Sequence[str]
    orphans: Sequence[str]
    """Objects that were deleted."""

    @property
    def is_empty(self) -> bool:
        return not (self.swept or self.stranded_videos or self.silent_workers or self.orphans)


def sweep(engine: Engine, results: ObjectStore | None, *, ended_runs: Sequence[UUID]) -> SweepReport:
    """Sweep once. Safe to repeat and to run beside another.

    Args:
        engine: the ledger.
        results: where shards lie; None leaves orphans for another time: to find them, all shards are listed.
        ended_runs: flow runs that the orchestrator knows to have ended; none if it could not be asked, and the
            clock alone decides.
    """
    return SweepReport(
        swept=sweep_stale_claims(engine, ended_runs=ended_runs),
        stranded_videos=release_stranded_videos(engine),
        silent_workers=flag_silent_workers(engine),
        orphans=delete_orphans(engine, results) if results is not None else [],
    )


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Name the objects under ``shards/`` that no committed chunk owns and no open one may yet commit.

    The store is listed before the ledger is read: what is committed in between is known by then.
    """
    before = datetime.now(UTC) - margin
    listed = [item.key for item in list_objects(results, "shards") if item.modified_at < before]
    if not listed:
        return []
    owned = {shard.shard_key for shard in read_committed_shards(engine)}
    # Read after the committed ones: a shard retires, and never returns.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {key.replace(".parquet", ".manifest.json") for key in owned}
    for chunk in read_open_chunks(engine):
        owned |= {shard_key(chunk.worker_id, chunk.shard_number), manifest_key(chunk.worker_id, chunk.shard_number)}
    return sorted(set(listed) - owned)


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Delete what ``find_orphans`` names. Returns it."""
    orphans = find_orphans(engine, results, margin=margin)
    for key in orphans:
        delete_object(results, key)
    return orphans

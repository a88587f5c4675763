"""Find and delete orphans: objects of the results bucket that belong to no committed shard and to no open chunk."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.errors import Permanent
from validation.ledger.maintenance import find_unknown_chunks
from validation.ledger.queries import read_committed_shards, read_open_chunks, read_retired_shards
from validation.shards.bucket import read_manifest
from validation.shards.manifest import ShardManifest
from validation.shards.naming import shard_key, sibling_key
from validation.storage.store import delete_object, list_objects

READERS = 8
"""Shards or manifests read at a time."""
ORPHAN_MARGIN = timedelta(hours=1)
"""How old an object must be before it can be an orphan: more than the clock of any object store is wrong."""


@dataclass(frozen=True, slots=True)
class Strays:
    """Keys of the objects under ``shards/`` that belong to no committed shard and to no open chunk."""

    orphans: Sequence[str]
    """Of chunks that this ledger knows and that left no shard; of uploads that were cut off; of cut-off compactions."""
    unknown: Sequence[str]
    """Complete shards of chunks that this ledger does not know, as in a ledger that was restored from a backup or begun
    anew. They may be the only copy of their results: only ``repair`` decides about them."""
    complete: Sequence[str] = ()
    """The orphans that are complete shards of a chunk: ``repair`` can record them too, if it comes before the sweep."""


def find_strays(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Strays:
    """Find them, without the objects younger than ``margin``.

    The bucket is listed before the ledger is read, and open chunks are read before committed shards: a shard that is
    uploaded or committed in between is found in one of the two.
    """
    before = datetime.now(UTC) - margin
    objects = list(list_objects(results, "shards"))
    if not objects:
        return Strays((), ())
    owned = {shard_key(chunk.worker_id, chunk.shard_number) for chunk in read_open_chunks(engine)}
    owned |= {shard.shard_key for shard in read_committed_shards(engine)}
    # Read after the committed shards: a shard may retire meanwhile, and is never current again.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {sibling_key(key) for key in owned}
    strays = {item.key for item in objects if item.modified_at < before} - owned
    manifests = _read_manifests(results, strays)
    unknown = set(_find_unknown(engine, manifests, owned & {item.key for item in objects}))
    orphans = strays - unknown - {sibling_key(key) for key in unknown}
    complete = {each.key for each in manifests if not each.sources} - unknown
    return Strays(sorted(orphans), sorted(unknown), sorted(complete))


def _read_manifests(results: ObjectStore, strays: set[str]) -> list[ShardManifest]:
    """The manifests of those that are complete: without a manifest a shard was never committed."""
    complete = sorted(key for key in strays if key.endswith(".parquet") and sibling_key(key) in strays)
    with ThreadPoolExecutor(READERS) as pool:
        return [each for each in pool.map(partial(_read_manifest, results), complete) if each is not None]


def _find_unknown(engine: Engine, manifests: Sequence[ShardManifest], present: set[str]) -> Iterator[str]:
    """The shards of chunks that the ledger does not know, and compacted shards one of whose sources is not present."""
    written = [each for each in manifests if not each.sources]
    unknown = set(find_unknown_chunks(engine, [each.provenance.chunk_id for each in written]))
    yield from (each.key for each in written if each.provenance.chunk_id in unknown)
    yield from (each.key for each in manifests if each.sources and not present.issuperset(each.sources))


def _read_manifest(results: ObjectStore, key: str) -> ShardManifest | None:
    """None if the object beside the shard is no manifest of it: an upload that was cut off, or no shard at all."""
    try:
        manifest = read_manifest(results, key)
    except Permanent:
        return None
    return manifest if manifest.key == key else None


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Keys of the orphans, which may be deleted."""
    return find_strays(engine, results, margin=margin).orphans


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Delete the orphans. Returns their keys."""
    return delete_all(results, find_orphans(engine, results, margin=margin))


def delete_all(results: ObjectStore, keys: Sequence[str]) -> Sequence[str]:
    """Delete objects. Returns their keys."""
    for key in keys:
        delete_object(results, key)
    return keys

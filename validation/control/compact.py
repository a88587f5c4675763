"""Make fewer, larger shards of many small ones, under the eyes of readers.

At every moment the ledger names for each video exactly one shard of each suite and revision. The new shard is uploaded
under a name that nobody else has, then one transaction lets it stand for the old ones; these are kept until
``delete_retired``. A compaction that ends anywhere before the transaction leaves an object that nobody owns, which the
sweep deletes; one that ends after it is done.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from uuid import uuid4

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.audit import READERS
from validation.control.sweep import ORPHAN_MARGIN
from validation.ledger.maintenance import compact_shards, purge_retired_shards
from validation.ledger.queries import CommittedShard, read_committed_shards
from validation.ledger.rpc import CompactionConflict
from validation.shards.errors import ShardCorrupt
from validation.shards.manifest import ShardManifest
from validation.shards.merge import ShardPart, merge_shards, merging_key
from validation.shards.naming import sibling_key
from validation.shards.reader import verify_shard
from validation.storage.store import delete_object, get_bytes, put_once

TARGET_BYTES = 64 << 20
"""How large a compacted shard becomes. Merging holds all of it decoded in memory."""
COMMIT_WITHIN_S = ORPHAN_MARGIN.total_seconds() / 2
"""A shard that is older when it is committed might be swept as an orphan at that very moment."""


def plan_compactions(
    results: ObjectStore, shards: Sequence[CommittedShard], *, target_bytes: int = TARGET_BYTES
) -> list[list[CommittedShard]]:
    """Group shards that can become one: of one suite, revision and rules, and together about ``target_bytes``.

    A shard of more than half of that is large enough. Reads the manifests of the others, and nothing else.

    Raises:
        ShardCorrupt, ObjectMissing: a manifest is not there or is none; names it.
    """
    small = [shard for shard in shards if shard.shard_bytes <= target_bytes // 2]
    with ThreadPoolExecutor(READERS) as pool:
        manifests = list(pool.map(partial(_read_manifest, results), small))
    keyed = [(repr(merging_key(m.provenance)), shard) for shard, m in zip(small, manifests, strict=True)]
    keyed.sort(key=lambda item: (item[0], item[1].shard_key))
    groups: list[list[CommittedShard]] = []
    for _, alike in groupby(keyed, key=lambda item: item[0]):
        groups += _fill([shard for _, shard in alike], target_bytes)
    return [group for group in groups if len(group) > 1]


def compact_group(engine: Engine, results: ObjectStore, group: Sequence[CommittedShard]) -> ShardManifest | None:
    """Let one new shard stand for a group. None: a source changed meanwhile, or the upload took too long.

    Raises:
        ShardCorrupt: a source is not what was committed.
    """
    return list(compact_steps(engine, results, group))[-1]


def compact_steps(
    engine: Engine, results: ObjectStore, group: Sequence[CommittedShard]
) -> Iterator[ShardManifest | None]:
    """Compact a group step by step; each may be the last that this process does.

    Yields:
        The new shard's manifest after each step, None last if nothing was changed.
    """
    payload, manifest = merge_shards([_read_part(results, shard) for shard in group], uuid4())
    yield manifest
    began_s = time.monotonic()
    put_once(results, manifest.key, payload)
    yield manifest
    put_once(results, sibling_key(manifest.key), manifest.to_json())
    yield manifest
    if time.monotonic() - began_s > COMMIT_WITHIN_S or not _commit(engine, manifest):
        _delete_shard(results, manifest.key)
        yield None
    else:
        yield manifest


def _commit(engine: Engine, manifest: ShardManifest) -> bool:
    """Let the shard stand for its sources. False: one of them holds something else by now."""
    videos = {video.video_id: video.segments for video in manifest.videos}
    try:
        compact_shards(engine, manifest.receipt, sources=manifest.sources, videos=videos)
    except CompactionConflict:
        return False
    return True


def delete_retired(engine: Engine, results: ObjectStore, *, older_than_s: int) -> list[str]:
    """Delete the shards that no reader has needed for so long. Returns their keys.

    The ledger gives them up first: what a crash leaves behind is an orphan like any other.
    """
    forgotten = purge_retired_shards(engine, older_than_s=older_than_s)
    for key in forgotten:
        _delete_shard(results, key)
    return forgotten


def compact_all(
    engine: Engine, results: ObjectStore, *, target_bytes: int = TARGET_BYTES
) -> Iterator[tuple[Sequence[CommittedShard], ShardManifest | None]]:
    """Compact what is worth it; yields each group, and what became of it, as it is done."""
    for group in plan_compactions(results, read_committed_shards(engine), target_bytes=target_bytes):
        yield group, compact_group(engine, results, group)


def _fill(shards: Sequence[CommittedShard], target_bytes: int) -> Iterator[list[CommittedShard]]:
    group: list[CommittedShard] = []
    for shard in shards:
        group.append(shard)
        if sum(each.shard_bytes for each in group) >= target_bytes:
            yield group
            group = []
    if group:
        yield group


def _read_manifest(results: ObjectStore, shard: CommittedShard) -> ShardManifest:
    return ShardManifest.from_json(get_bytes(results, sibling_key(shard.shard_key)), sibling_key(shard.shard_key))


def _read_part(results: ObjectStore, shard: CommittedShard) -> ShardPart:
    """Read a shard and prove that it is the one that was committed: nothing corrupt gets a new name."""
    payload, manifest = get_bytes(results, shard.shard_key), _read_manifest(results, shard)
    verify_shard(payload, manifest)
    if manifest.sha256 != shard.shard_sha256:
        raise ShardCorrupt(shard.shard_key, "sha256", expected=shard.shard_sha256, found=manifest.sha256)
    return ShardPart(payload, manifest, shard.superseded)


def _delete_shard(results: ObjectStore, key: str) -> None:
    delete_object(results, sibling_key(key))
    delete_object(results, key)

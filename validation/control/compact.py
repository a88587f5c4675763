"""Compaction: merge many small shards into fewer, larger shards, while readers read.

At every moment the ledger has at most one current shard per video and suite revision. The new shard is uploaded under
a new key; then one transaction replaces the sources by the new shard. The objects of the sources are kept until
``delete_retired``. If a compaction is interrupted before the transaction, the new shard is an orphan, which the sweep
deletes. After the transaction the compaction is complete.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from uuid import UUID, uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.audit import ORPHAN_MARGIN, READERS
from validation.domain import VideoFailure
from validation.errors import BadInput
from validation.ledger.maintenance import compact_shards, purge_retired_shards
from validation.ledger.queries import CommittedShard, read_committed_shards
from validation.ledger.rpc import CompactionConflict
from validation.shards.manifest import ShardManifest, delete_shard, read_manifest
from validation.shards.naming import compacted_key, manifest_key_of
from validation.shards.reader import group_shards, verify_shard
from validation.shards.schema import ShardCorrupt, ShardProvenance
from validation.shards.writer import encode_table
from validation.storage.store import get_bytes, put_if_absent

COMPACTOR = "compaction"
"""The worker id in the provenance of a compacted shard."""


@dataclass(frozen=True, slots=True)
class SourceShard:
    """A shard to merge, with the ids of its superseded videos, whose rows are left out."""

    payload: bytes
    manifest: ShardManifest
    superseded: Collection[str] = ()


def merging_key(provenance: ShardProvenance) -> tuple[object, ...]:
    """Return the fields that must be equal in two shards to merge them: the values of a shard depend on them."""
    return (
        provenance.suite,
        tuple(sorted(provenance.model_revisions.items())),
        provenance.rules_version,
        provenance.policy,
        provenance.schema_version,
        provenance.normalisation_version,
    )


def merge_shards(sources: Sequence[SourceShard], token: UUID) -> tuple[bytes, ShardManifest]:
    """Merge the current rows of several shards. Returns the bytes of the new shard and its manifest.

    The manifest also lists the failed videos of the sources, except videos that have rows in the new shard.

    Raises:
        BadInput: the sources differ in ``merging_key``, or two sources have current rows of the same video.
    """
    first = sources[0].manifest.provenance
    if len({merging_key(source.manifest.provenance) for source in sources}) > 1:
        raise BadInput("shards of different suites, revisions or rules cannot be merged")
    videos = [v for source in sources for v in source.manifest.videos if v.video_id not in source.superseded]
    if twice := [video for video, count in Counter(v.video_id for v in videos).items() if count > 1]:
        raise BadInput(f"video {twice[0]} is in two shards that are to be merged")
    provenance = replace(first, chunk_id=token, worker_id=COMPACTOR, flow_run_id=None)
    table = pa.concat_tables(_take_rows(source) for source in sources)
    payload = encode_table(table.sort_by([("video_id", "ascending"), ("segment_index", "ascending")]), provenance)
    return payload, ShardManifest(
        key=compacted_key(first.suite, token),
        rows=len(table),
        size_bytes=len(payload),
        sha256=sha256(payload).hexdigest(),
        provenance=provenance,
        videos=tuple(sorted(videos, key=lambda video: video.video_id)),
        failed=_carry_failures(sources, {video.video_id for video in videos}),
        sources=tuple(source.manifest.key for source in sources),
    )


def _carry_failures(sources: Iterable[SourceShard], validated: Collection[str]) -> tuple[VideoFailure, ...]:
    """Return the failures in the manifests of the sources, except failures of the videos in ``validated``."""
    failures = {
        failure: None for source in sources for failure in source.manifest.failed if failure.video_id not in validated
    }
    return tuple(sorted(failures, key=attrgetter("video_id")))


def _take_rows(source: SourceShard) -> pa.Table:
    """Return the rows of a shard without the rows of its superseded videos."""
    table = pq.read_table(pa.BufferReader(source.payload))
    table = table.cast(pa.schema([_own_metadata(field) for field in table.schema]))
    if source.superseded:
        stale = pc.is_in(table["video_id"], value_set=pa.array(source.superseded, pa.string()))
        table = table.filter(pc.invert(stale))
    return table


def _own_metadata(field: pa.Field) -> pa.Field:
    """Remove the metadata that the parquet reader adds to a column."""
    return field.with_metadata(_without_parquet((field.metadata or {}).items()))


def _without_parquet(items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {key: value for key, value in items if not key.startswith(b"PARQUET:")}


TARGET_BYTES = 64 << 20
"""Approximate size of a compacted shard in bytes. Merging holds the decoded shard in memory."""
COMMIT_TIMEOUT_S = ORPHAN_MARGIN.total_seconds() / 2
"""Maximum seconds from upload to commit. After ``ORPHAN_MARGIN`` a sweep may delete the object as an orphan."""


def plan_compactions(
    results: ObjectStore, shards: Sequence[CommittedShard], *, target_bytes: int = TARGET_BYTES
) -> list[list[CommittedShard]]:
    """Group shards with an equal ``merging_key``. Each group but the last of a key has at least ``target_bytes``.

    Shards larger than half of ``target_bytes`` are left out. The manifests of the other shards are read. A shard that
    would be alone in its group is left out too.

    Raises:
        ShardCorrupt, ObjectMissing: a manifest is invalid or missing; the message contains its key.
    """
    small = [shard for shard in shards if shard.shard_bytes <= target_bytes // 2]
    with ThreadPoolExecutor(READERS) as pool:
        merging = list(pool.map(partial(_read_merging_key, results), [shard.shard_key for shard in small]))
    keyed = list(zip(merging, small, strict=True))
    keyed.sort(key=lambda item: (item[0], item[1].shard_key))
    groups: list[list[CommittedShard]] = []
    for _, alike in groupby(keyed, key=lambda item: item[0]):
        groups += group_shards([shard for _, shard in alike], lambda shard: shard.shard_bytes, target_bytes)
    return [group for group in groups if len(group) > 1]


def _read_merging_key(results: ObjectStore, key: str) -> str:
    """Read the merging key of a shard. The rest of the manifest is dropped: it has one entry per video."""
    return repr(merging_key(read_manifest(results, key).provenance))


def compact_group(engine: Engine, results: ObjectStore, group: Sequence[CommittedShard]) -> ShardManifest | None:
    """Replace a group of shards by one new shard. Returns the manifest of the new shard.

    Returns None if a source changed meanwhile or the upload took too long; then nothing was changed.

    Raises:
        ShardCorrupt, ObjectMissing: a source or its manifest is missing, or its bytes are not the committed bytes.
    """
    return list(compact_steps(engine, results, group))[-1]


def compact_steps(
    engine: Engine, results: ObjectStore, group: Sequence[CommittedShard]
) -> Iterator[ShardManifest | None]:
    """Compact a group in steps. The process may die after any step without damage.

    Yields:
        The new shard's manifest after each step; None as the last item if nothing was changed.
    """
    payload, manifest = merge_shards([_read_source(results, shard) for shard in group], uuid4())
    yield manifest
    started_s = time.monotonic()
    put_if_absent(results, manifest.key, payload)
    yield manifest
    put_if_absent(results, manifest_key_of(manifest.key), manifest.to_json())
    yield manifest
    if time.monotonic() - started_s > COMMIT_TIMEOUT_S or not _commit(engine, manifest):
        delete_shard(results, manifest.key)
        yield None
    else:
        yield manifest


def _commit(engine: Engine, manifest: ShardManifest) -> bool:
    """Replace the sources by the new shard in the ledger. Returns False if a source has changed."""
    videos = {video.video_id: video.segments for video in manifest.videos}
    try:
        compact_shards(engine, manifest.receipt, sources=manifest.sources, videos=videos)
    except CompactionConflict:
        return False
    return True


def delete_retired(engine: Engine, results: ObjectStore, *, older_than_s: int) -> list[str]:
    """Delete the shards that have been retired for ``older_than_s`` seconds. Returns the keys of the deleted shards.

    The ledger marks the shards deleted first. So an object that remains after a crash is an orphan.
    """
    purged = purge_retired_shards(engine, older_than_s=older_than_s)
    for key in purged:
        delete_shard(results, key)
    return purged


def compact_all(
    engine: Engine, results: ObjectStore, *, target_bytes: int = TARGET_BYTES
) -> Iterator[tuple[Sequence[CommittedShard], ShardManifest | None]]:
    """Compact all groups; yields each group with the manifest of its new shard, or None if it was not compacted."""
    for group in plan_compactions(results, read_committed_shards(engine), target_bytes=target_bytes):
        yield group, compact_group(engine, results, group)


def _read_source(results: ObjectStore, shard: CommittedShard) -> SourceShard:
    """Read a shard and its manifest.

    Raises:
        ShardCorrupt: the shard does not match its manifest or the committed checksum.
        ObjectMissing: the shard or its manifest is missing.
    """
    payload, manifest = get_bytes(results, shard.shard_key), read_manifest(results, shard.shard_key)
    verify_shard(payload, manifest)
    if manifest.sha256 != shard.shard_sha256:
        raise ShardCorrupt(shard.shard_key, "sha256", expected=shard.shard_sha256, found=manifest.sha256)
    return SourceShard(payload, manifest, shard.superseded)

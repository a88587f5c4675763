"""Merge several shards into one: the same rows in fewer files."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from operator import attrgetter
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from validation.domain import VideoFailure
from validation.errors import BadInput
from validation.shards.manifest import ShardManifest
from validation.shards.naming import compacted_key
from validation.shards.schema import ShardProvenance
from validation.shards.writer import write_table

COMPACTOR = "compaction"
"""The worker id in the provenance of a compacted shard."""


@dataclass(frozen=True, slots=True)
class ShardPart:
    """A shard to merge, and its videos whose rows are left out."""

    payload: bytes
    manifest: ShardManifest
    superseded: Collection[str] = ()


def merging_key(provenance: ShardProvenance) -> tuple[object, ...]:
    """Return what two shards must have in common to be merged: all that their numbers depend on."""
    return (
        provenance.suite,
        tuple(sorted(provenance.model_revisions.items())),
        provenance.rules_version,
        provenance.policy,
        provenance.schema_version,
        provenance.normalisation_version,
    )


def merge_shards(parts: Sequence[ShardPart], token: UUID) -> tuple[bytes, ShardManifest]:
    """Write the current rows of several shards as one shard, and build its manifest.

    Failures of the parts are carried over, except of videos that have rows by now.

    Raises:
        BadInput: the parts differ in ``merging_key``, or two hold the same video.
    """
    first = parts[0].manifest.provenance
    if len({merging_key(part.manifest.provenance) for part in parts}) > 1:
        raise BadInput("shards of different suites, revisions or rules cannot be merged")
    videos = [v for part in parts for v in part.manifest.videos if v.video_id not in part.superseded]
    if twice := [video for video, count in Counter(v.video_id for v in videos).items() if count > 1]:
        raise BadInput(f"video {twice[0]} is in two shards that are to be merged")
    provenance = replace(first, chunk_id=token, worker_id=COMPACTOR, flow_run_id=None)
    table = pa.concat_tables(_take_rows(part) for part in parts)
    payload = write_table(table.sort_by([("video_id", "ascending"), ("segment_index", "ascending")]), provenance)
    return payload, ShardManifest(
        key=compacted_key(first.suite, token),
        rows=len(table),
        size_bytes=len(payload),
        sha256=sha256(payload).hexdigest(),
        provenance=provenance,
        videos=tuple(sorted(videos, key=lambda video: video.video_id)),
        failed=_carry_failures(parts, {video.video_id for video in videos}),
        sources=tuple(part.manifest.key for part in parts),
    )


def _carry_failures(parts: Iterable[ShardPart], validated: Collection[str]) -> tuple[VideoFailure, ...]:
    failures = {
        failure: None for part in parts for failure in part.manifest.failed if failure.video_id not in validated
    }
    return tuple(sorted(failures, key=attrgetter("video_id")))


def _take_rows(part: ShardPart) -> pa.Table:
    table = pq.read_table(pa.BufferReader(part.payload))
    table = table.cast(pa.schema([_own_metadata(field) for field in table.schema]))
    if part.superseded:
        stale = pc.is_in(table["video_id"], value_set=pa.array(part.superseded, pa.string()))
        table = table.filter(pc.invert(stale))
    return table


def _own_metadata(field: pa.Field) -> pa.Field:
    """Remove what parquet adds to a column's metadata when it is read."""
    return field.with_metadata(_without_parquet((field.metadata or {}).items()))


def _without_parquet(items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {key: value for key, value in items if not key.startswith(b"PARQUET:")}

"""The manifest: the JSON beside a shard that lists what the shard holds. The two are read and deleted together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter

from obstore.store import ObjectStore
from pydantic import TypeAdapter, ValidationError

from validation.domain import ShardReceipt, Video, VideoFailure
from validation.shards.naming import parse_shard_key, shard_folder, sibling_key
from validation.shards.schema import ShardCorrupt, ShardProvenance
from validation.shards.writer import Row
from validation.storage.store import delete_object, get_bytes, list_keys


@dataclass(frozen=True, slots=True)
class ShardVideo:
    """A video in a shard."""

    video_id: str
    language: str | None
    segments: int
    """Its rows."""
    segments_expected: int | None
    """The queue's segment count; a difference is recorded here and has no other effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """What one shard holds. Written as JSON, as FORMAT.md shows."""

    key: str
    rows: int
    size_bytes: int
    sha256: str
    provenance: ShardProvenance
    videos: tuple[ShardVideo, ...]
    failed: tuple[VideoFailure, ...]
    sources: tuple[str, ...] = ()
    """Keys of the shards that it was compacted from; empty if a chunk wrote it."""

    @property
    def receipt(self) -> ShardReceipt:
        """The facts that the ledger keeps."""
        provenance = self.provenance
        return ShardReceipt(
            self.key,
            self.sha256,
            self.size_bytes,
            self.rows,
            provenance.suite,
            models=dict(provenance.model_revisions),
        )

    def to_json(self) -> bytes:
        return _MANIFEST_JSON.dump_json(self, indent=2)

    @classmethod
    def from_json(cls, payload: bytes, key: str) -> "ShardManifest":
        """Read a manifest; ``key`` names it in errors. Keys that are not known here are ignored.

        Raises:
            ShardCorrupt: it is not JSON, or a key is missing or of the wrong kind.
        """
        try:
            return _MANIFEST_JSON.validate_json(payload)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "manifest"
            raise ShardCorrupt(key, place, expected="a shard manifest's", found=first["msg"]) from None


_MANIFEST_JSON = TypeAdapter(ShardManifest)


def describe_shard(
    payload: bytes,
    key: str,
    provenance: ShardProvenance,
    *,
    rows: Iterable[Row],
    videos: Iterable[Video],
    failed: Iterable[VideoFailure] = (),
) -> ShardManifest:
    """Build the manifest of a shard.

    Args:
        payload: the shard's bytes, from ``encode_shard``.
        key: the shard's object key, from ``shard_key``.
        provenance: what the shard was encoded with.
        rows: the rows that it was encoded from.
        videos: the videos that the chunk claimed; those with rows are listed.
        failed: the videos that were tried and have no rows.
    """
    segments = Counter(row["video_id"] for row in rows)
    return ShardManifest(
        key=key,
        rows=segments.total(),
        size_bytes=len(payload),
        sha256=sha256(payload).hexdigest(),
        provenance=provenance,
        videos=tuple(
            ShardVideo(video.video_id, video.language, segments[video.video_id], video.segment_count)
            for video in sorted(videos, key=attrgetter("video_id"))
            if video.video_id in segments
        ),
        failed=tuple(sorted(failed, key=attrgetter("video_id"))),
    )


def read_manifest(results: ObjectStore, shard_key: str) -> ShardManifest:
    """The manifest of a shard.

    Raises:
        ObjectMissing: there is none.
        ShardCorrupt: it is no manifest.
    """
    return ShardManifest.from_json(get_bytes(results, sibling_key(shard_key)), sibling_key(shard_key))


def highest_shard_number(results: ObjectStore, worker_id: str) -> int:
    """The highest number of a worker's shards in the bucket, committed or not; 0 if there are none."""
    found = (parse_shard_key(key) for key in list_keys(results, shard_folder(worker_id)))
    return max((number for worker, number in filter(None, found) if worker == worker_id), default=0)


def delete_shard(results: ObjectStore, shard_key: str) -> None:
    """Delete a shard, its manifest first, which must not outlive it. Deleting it again does nothing."""
    delete_object(results, sibling_key(shard_key))
    delete_object(results, shard_key)

"""The manifest: the JSON object beside a shard that lists its contents. Shard and manifest are deleted together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter

from obstore.store import ObjectStore
from pydantic import TypeAdapter, ValidationError

from validation.domain import ShardReceipt, Video, VideoFailure
from validation.shards.naming import manifest_key_of, parse_shard_key, shard_folder
from validation.shards.schema import ShardCorrupt, ShardProvenance
from validation.shards.writer import Row
from validation.storage.store import delete_object, get_bytes, list_keys


@dataclass(frozen=True, slots=True)
class ShardVideo:
    """A video that has rows in a shard."""

    video_id: str
    language: str | None
    segments: int
    """Number of rows of the video in the shard."""
    segments_expected: int | None
    """The segment count of the video in the queue; None if the queue has none. A video whose ``segments`` differ is
    valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """The contents of one shard. FORMAT.md shows the JSON form."""

    key: str
    rows: int
    size_bytes: int
    sha256: str
    provenance: ShardProvenance
    videos: tuple[ShardVideo, ...]
    failed: tuple[VideoFailure, ...]
    sources: tuple[str, ...] = ()
    """Keys of the shards that this shard was compacted from; empty if a chunk wrote the shard."""

    @property
    def receipt(self) -> ShardReceipt:
        """The receipt of the shard without its length of audio and its verdicts, which a manifest does not hold."""
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
        """Return the manifest as the JSON object that is stored beside the shard."""
        return _MANIFEST_JSON.dump_json(self, indent=2)

    @classmethod
    def from_json(cls, payload: bytes, key: str) -> "ShardManifest":
        """Read a manifest from JSON. ``key`` is its object key for error messages. Unknown keys are ignored.

        Raises:
            ShardCorrupt: the payload is not JSON, or a key is missing or has a value of the wrong type.
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
        provenance: the provenance that the shard was encoded with.
        rows: the rows that the shard was encoded from.
        videos: the videos that the chunk claimed. The manifest lists those with rows.
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
    """Read the manifest of a shard from the results store.

    Raises:
        ObjectMissing: the shard has no manifest.
        ShardCorrupt: the object is not a manifest.
    """
    return ShardManifest.from_json(get_bytes(results, manifest_key_of(shard_key)), manifest_key_of(shard_key))


def highest_shard_number(results: ObjectStore, worker_id: str) -> int:
    """Return the highest number of a worker's shards in the bucket, committed or not; 0 if there is no shard."""
    found = (parse_shard_key(key) for key in list_keys(results, shard_folder(worker_id)))
    return max((number for worker, number in filter(None, found) if worker == worker_id), default=0)


def delete_shard(results: ObjectStore, shard_key: str) -> None:
    """Delete a shard and its manifest. The manifest is deleted first, so that it never exists without its shard.

    Deleting a missing shard does nothing.
    """
    delete_object(results, manifest_key_of(shard_key))
    delete_object(results, shard_key)

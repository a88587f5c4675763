"""The manifest: what a shard holds, told beside it, and the proof that it still does."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from operator import attrgetter

from pydantic import TypeAdapter, ValidationError

from validation.domain import ShardReceipt, Video, VideoFailure
from validation.shards.faults import ShardCorrupt
from validation.shards.provenance import ShardProvenance
from validation.shards.writer import Row


@dataclass(frozen=True, slots=True)
class ShardVideo:
    """A video in a shard."""

    video_id: str
    language: str | None
    segments: int
    """Its rows."""
    segments_expected: int | None
    """What the queue promised; a difference is recorded here and nowhere punished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardManifest:
    """What one shard holds. Written as JSON; FORMAT.md shows it."""

    key: str
    rows: int
    size_bytes: int
    sha256: str
    provenance: ShardProvenance
    videos: tuple[ShardVideo, ...]
    failed: tuple[VideoFailure, ...]
    sources: tuple[str, ...] = ()
    """Keys of the shards that it was compacted from; none if a chunk wrote it."""

    @property
    def receipt(self) -> ShardReceipt:
        """What the ledger keeps of it."""
        made = self.provenance
        return ShardReceipt(
            self.key, self.sha256, self.size_bytes, self.rows, made.suite, models=dict(made.model_revisions)
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
    """Write down what a shard holds.

    Args:
        payload: its bytes, from ``encode_shard``.
        key: where it will lie, from ``shard_key``.
        provenance: what it was encoded with.
        rows: what it was encoded from.
        videos: those that the chunk claimed; the ones with rows are listed.
        failed: those that were tried and have no rows.
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

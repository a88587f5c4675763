"""The control plane's calls: sweep, requeue, compaction. One Python function per SQL function."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Engine

from validation.domain import Seconds, ShardReceipt
from validation.errors import BadInput
from validation.ledger.chunks import MAX_CRASHES
from validation.ledger.rpc import call_function
from validation.ledger.workers import HEARTBEAT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class SweptChunk:
    """A chunk that was taken back from a dead holder."""

    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None
    reason: str
    videos_returned: int
    videos_failed: int


def sweep_stale_claims(engine: Engine, *, ended_runs: Mapping[UUID, Seconds] | None = None) -> list[SweptChunk]:
    """Take back every chunk whose lease expired, or whose flow run ended and was not renewed since.

    Args:
        engine: the ledger.
        ended_runs: flow runs that Prefect reports as ended -> seconds since their end.
    """
    ended = dict(ended_runs or {})
    rows = call_function(
        engine, "sweep_stale_claims",
        ended_runs=list(ended), ended_ago_s=list(ended.values()), max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return [SweptChunk(*tuple(row)) for row in rows]


def requeue_stranded_videos(engine: Engine, *, older_than_s: int = 1800) -> int:
    """Put videos back that are `validating` in no open chunk. Returns how many; a number other than 0 needs a look."""
    (row,) = call_function(engine, "requeue_stranded_videos", older_than_s=older_than_s)
    return int(row[0])


def end_box_sessions(engine: Engine, *, idle_s: int = 30, transaction_s: int = 60) -> int:
    """End the sessions of boxes whose transaction idles or does not end; with 0 and 0 all of them. Returns how many.

    An honest box loses one call, which it repeats.
    """
    (row,) = call_function(engine, "end_box_sessions", idle_s=idle_s, transaction_s=transaction_s)
    return int(row[0])


def mark_stale_workers(engine: Engine, *, timeout_s: int = HEARTBEAT_TIMEOUT_S) -> list[str]:
    """Mark workers without a heartbeat for ``timeout_s`` stale, after a day offline. Returns the newly stale ids."""
    return [row[0] for row in call_function(engine, "mark_stale_workers", timeout_s=timeout_s)]


class VideosUnknown(BadInput):
    """The queue does not have videos with these ids."""

    def __init__(self, video_ids: Sequence[str]) -> None:
        self.video_ids = tuple(video_ids)
        shown = ", ".join(repr(each) for each in self.video_ids[:5])
        more = f" and {len(self.video_ids) - 5} more" if len(self.video_ids) > 5 else ""  # noqa: PLR2004
        super().__init__(f"the queue has no video {shown}{more}: no video was requeued")


@dataclass(frozen=True, slots=True)
class Requeue:
    """Which validated or failed videos to requeue: those that meet every condition given. Without any: all of them."""

    video_ids: Sequence[str] | None = None
    status: Literal["validated", "validation_failed"] | None = None
    languages: Sequence[str] | None = None
    worker_id: str | None = None
    """A worker's id or a rented box's label: videos that it committed last, or of which it wrote a current result."""
    suite: str | None = None
    """Videos with a current result of this suite."""
    revision: str | None = None
    """Videos with a current result of this revision, as ``read_suite_revisions`` names it."""
    lacking: Mapping[str, str | None] | None = None
    """Model -> revision, None for any: validated videos without a current result of one of these models."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """How many videos of one language and status were requeued; with ``dry_run``, would be."""

    language: str
    status: str
    videos: int


def requeue_videos(engine: Engine, which: Requeue, *, dry_run: bool = False) -> list[Requeued]:
    """Make videos pending again with no attempts; readers keep their results until the same suite commits them again.

    With ``which.lacking``, only those models will be asked about them.

    Raises:
        VideosUnknown: the queue does not have some of ``which.video_ids``; nothing was changed.
    """
    require_videos(engine, which.video_ids or ())
    rows = call_function(
        engine, "requeue_videos",
        video_ids=None if which.video_ids is None else list(which.video_ids), status=which.status,
        languages=None if which.languages is None else list(which.languages), worker=which.worker_id,
        suite=which.suite, revision=which.revision,
        lacking=None if which.lacking is None else json.dumps(dict(which.lacking)), dry_run=dry_run,
    )  # fmt: skip
    return [Requeued(*tuple(row)) for row in rows]


def require_videos(engine: Engine, video_ids: Sequence[str]) -> None:
    """Refuse ids that the queue does not have.

    Raises:
        VideosUnknown: names them.
    """
    if video_ids and (unknown := find_unknown_videos(engine, video_ids)):
        raise VideosUnknown(unknown)


def find_unknown_videos(engine: Engine, video_ids: Sequence[str]) -> list[str]:
    """Those of the ids that the queue does not have, sorted."""
    return [row[0] for row in call_function(engine, "find_unknown_videos", video_ids=list(video_ids))]


def find_unknown_chunks(engine: Engine, chunk_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the chunks that the ledger has no row of."""
    return [row[0] for row in call_function(engine, "find_unknown_chunks", chunks=list(chunk_ids))]


def restore_shard(
    engine: Engine, shard: ShardReceipt, *, chunk_id: UUID, worker_id: str, number: int, videos: Mapping[str, int]
) -> int:
    """Record a chunk's shard that is in the bucket and not in the ledger. Returns how many videos became validated.

    Args:
        engine: the ledger.
        shard: the facts of its manifest, which the caller has verified.
        chunk_id: the chunk that wrote it.
        worker_id: the worker that wrote it.
        number: its number, from its key.
        videos: video id -> segments in the shard.

    Raises:
        ShardNotRestored: a video is not in the queue or in an open chunk, or the chunk has another shard.
    """
    (row,) = call_function(
        engine, "restore_shard", shard=json.dumps(asdict(shard)), chunk=chunk_id, worker=worker_id, number=number,
        videos=json.dumps([{"video_id": video, "segments": n} for video, n in videos.items()]),
    )  # fmt: skip
    return int(row[0])


def withdraw_shard(engine: Engine, shard_key: str, *, reason: str) -> int:
    """Take a shard out of the ledger whose object is missing or altered. Returns how many videos were requeued."""
    (row,) = call_function(engine, "withdraw_shard", shard_key=shard_key, reason=reason)
    return int(row[0])


def compact_shards(engine: Engine, shard: ShardReceipt, *, sources: Sequence[str], videos: Mapping[str, int]) -> None:
    """Replace shards by one shard with the same current videos, in one transaction.

    Args:
        engine: the ledger.
        shard: what was uploaded.
        sources: keys of the shards that it was merged from.
        videos: video id -> segments in the new shard.

    Raises:
        CompactionConflict: the sources' current videos are not ``videos``; nothing changed.
    """
    call_function(
        engine, "compact_shards", shard=json.dumps(asdict(shard)), sources=list(sources),
        videos=json.dumps([{"video_id": video, "segments": n} for video, n in videos.items()]),
    )  # fmt: skip


def purge_retired_shards(engine: Engine, *, older_than_s: int) -> list[str]:
    """Mark shards deleted that were retired ``older_than_s`` ago. Returns their keys, for the caller to delete."""
    return [row[0] for row in call_function(engine, "purge_retired_shards", older_than_s=older_than_s)]

"""Calls of the control plane: sweep, requeue, repair, compaction. One Python function per SQL function."""

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
    """``lease expired`` or ``flow run ended``."""
    videos_returned: int
    videos_failed: int
    """Number of videos that failed because of this crash or loss (see `MAX_CRASHES`)."""


def sweep_stale_claims(engine: Engine, *, ended_runs: Mapping[UUID, Seconds] | None = None) -> list[SweptChunk]:
    """Take back every chunk whose holder is dead. Returns the chunks that were taken back.

    The holder is dead if the lease expired. It is also dead if its flow run ended, the chunk was not renewed more
    than 10 s after that end (the clocks may differ by this), and the worker's heartbeats went on. Each video of the
    chunk counts a crash or a loss. A chunk whose rows another transaction has locked is skipped.

    Args:
        engine: the ledger.
        ended_runs: flow run id -> seconds since its end, for the flow runs that Prefect reports as ended.
    """
    ended = dict(ended_runs or {})
    rows = call_function(
        engine, "sweep_stale_claims",
        ended_runs=list(ended), ended_ago_s=list(ended.values()), max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return [SweptChunk(*tuple(row)) for row in rows]


def requeue_stranded_videos(engine: Engine, *, older_than_s: int = 1800) -> int:
    """Requeue videos that are `validating` without an open chunk and were claimed over ``older_than_s`` seconds ago.

    Returns the number of requeued videos. Only an edit by hand makes such videos.
    """
    (row,) = call_function(engine, "requeue_stranded_videos", older_than_s=older_than_s)
    return int(row[0])


def end_box_sessions(engine: Engine, *, idle_s: int = 30, transaction_s: int = 60) -> int:
    """End database sessions of boxes whose transaction idles for ``idle_s`` or lasts ``transaction_s`` seconds.

    Sessions of boxes that hold an advisory lock are ended too. If both numbers are 0, all sessions of boxes are ended.
    An honest box loses one call, which it repeats. Returns the number of ended sessions. A login that was not granted
    to validation_owner is left out (sql/roles.sql).
    """
    (row,) = call_function(engine, "end_box_sessions", idle_s=idle_s, transaction_s=transaction_s)
    return int(row[0])


def mark_stale_workers(engine: Engine, *, timeout_s: int = HEARTBEAT_TIMEOUT_S) -> list[str]:
    """Mark workers stale after ``timeout_s`` seconds without a heartbeat, and offline after a day.

    Returns the ids of the workers that became stale now.
    """
    return [row[0] for row in call_function(engine, "mark_stale_workers", timeout_s=timeout_s)]


class VideosUnknown(BadInput):
    """The queue has no videos with these ids."""

    def __init__(self, video_ids: Sequence[str]) -> None:
        self.video_ids = tuple(video_ids)
        shown = ", ".join(repr(each) for each in self.video_ids[:5])
        more = f" and {len(self.video_ids) - 5} more" if len(self.video_ids) > 5 else ""  # noqa: PLR2004
        super().__init__(f"the queue has no video {shown}{more}: no video was requeued")


@dataclass(frozen=True, slots=True)
class Requeue:
    """A filter of validated and failed videos. A video must meet every given condition; without any, all match."""

    video_ids: Sequence[str] | None = None
    status: Literal["validated", "validation_failed"] | None = None
    languages: Sequence[str] | None = None
    """Language labels, spelled as in the queue."""
    worker_id: str | None = None
    """A worker id or a rented box's label: videos whose last commit, or a current result, is from this box."""
    suite: str | None = None
    """Videos with a current result of this suite."""
    revision: str | None = None
    """Videos with a current result of this suite revision (``SuiteRevision.revision``)."""
    lacking: Mapping[str, str | None] | None = None
    """Model -> revision, None for any revision: validated videos that lack a current result of one of these models.

    If ``suite`` is given, only results of this suite count."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The number of requeued videos of one language and status; with ``dry_run``, of videos that would be requeued."""

    language: str
    status: str
    videos: int


def requeue_videos(engine: Engine, which: Requeue, *, dry_run: bool = False) -> list[Requeued]:
    """Make videos pending again. Returns their numbers per language and earlier status.

    Their attempts, crashes, losses, back-off, error and witness are reset. Their results stay current until the same
    suite revision commits the videos again. With ``which.lacking`` only those models will score the videos. With
    ``dry_run`` nothing is changed.

    Raises:
        VideosUnknown: the queue lacks some of ``which.video_ids``; nothing was changed.
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
    """Check that the queue has videos with all these ids.

    Raises:
        VideosUnknown: the queue lacks some ids, which are in the message.
    """
    if video_ids and (unknown := find_unknown_videos(engine, video_ids)):
        raise VideosUnknown(unknown)


def find_unknown_videos(engine: Engine, video_ids: Sequence[str]) -> list[str]:
    """Return the video ids that the queue does not have, sorted."""
    return [row[0] for row in call_function(engine, "find_unknown_videos", video_ids=list(video_ids))]


def find_unknown_chunks(engine: Engine, chunk_ids: Sequence[UUID]) -> list[UUID]:
    """Return the chunk ids for which the ledger has no row."""
    return [row[0] for row in call_function(engine, "find_unknown_chunks", chunks=list(chunk_ids))]


def restore_shard(
    engine: Engine, shard: ShardReceipt, *, chunk_id: UUID, worker_id: str, number: int, videos: Mapping[str, int]
) -> int:
    """Record a chunk's shard that is in the bucket but not in the ledger.

    Pending and failed videos become validated; the number of these videos is returned. A video with a current result of
    the same suite revision keeps this result, and its rows in the shard are superseded.

    Args:
        engine: the ledger.
        shard: the receipt of the shard, from its manifest. The caller has verified shard and manifest.
        chunk_id: the chunk whose results are in the shard.
        worker_id: the worker that wrote the shard.
        number: the shard number, from the shard key.
        videos: video id -> segments in the shard.

    Raises:
        ShardNotRestored: a video is not in the queue, a video is in an open chunk, the chunk is open or has another
            shard, or the worker is quarantined.
    """
    (row,) = call_function(
        engine, "restore_shard", shard=json.dumps(asdict(shard)), chunk=chunk_id, worker=worker_id, number=number,
        videos=json.dumps([{"video_id": video, "segments": n} for video, n in videos.items()]),
    )  # fmt: skip
    return int(row[0])


def withdraw_shard(engine: Engine, shard_key: str, *, reason: str) -> int:
    """Remove a shard from the ledger, because its object is missing or altered. Returns the number of requeued videos.

    If an older shard of the same suite revision has a result of a video, this result becomes current. A video is
    requeued if there is no such result, or if the shard's chunk was the last that committed the video.
    """
    (row,) = call_function(engine, "withdraw_shard", shard_key=shard_key, reason=reason)
    return int(row[0])


def compact_shards(engine: Engine, shard: ShardReceipt, *, sources: Sequence[str], videos: Mapping[str, int]) -> None:
    """Replace source shards by one new shard with the same current videos, in one transaction.

    Args:
        engine: the ledger.
        shard: the receipt of the new shard, which was uploaded.
        sources: keys of the shards that were merged into the new shard.
        videos: video id -> segments in the new shard.

    Raises:
        CompactionConflict: the current videos of the sources differ from ``videos``, or a source was deleted or has
            another suite or other models than ``shard``. Nothing was changed.
    """
    call_function(
        engine, "compact_shards", shard=json.dumps(asdict(shard)), sources=list(sources),
        videos=json.dumps([{"video_id": video, "segments": n} for video, n in videos.items()]),
    )  # fmt: skip


def purge_retired_shards(engine: Engine, *, older_than_s: int) -> list[str]:
    """Mark the shards deleted that are retired for ``older_than_s`` seconds. Returns their keys.

    The caller then deletes the objects with these keys.
    """
    return [row[0] for row in call_function(engine, "purge_retired_shards", older_than_s=older_than_s)]

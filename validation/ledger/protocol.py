"""The ledger's protocol: one Python function a SQL function.

Every write names its chunk; all times are the database's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal
from uuid import UUID

from sqlalchemy import Engine

from validation.domain import ChunkClaim, Progress, Seconds, ShardReceipt, Video, VideoFailure, WorkerProfile
from validation.ledger.rpc import call_function

MAX_CRASHES = 3
"""Deaths of its process, on a worker that lived on, after which a video is poison. Two would fail the innocent: a video
can be in company twice (pick_crash_suspects), and only its third crash is its own. A box that is lost as a whole is
no crash; four of them are (return_crashed_videos), and a ledger that is away is neither."""
HEARTBEAT_TIMEOUT_S = 75
"""After so long without a heartbeat a worker is stale: the default lease, within which two heartbeats were due."""


def register_worker(engine: Engine, profile: WorkerProfile, *, succeeds: str | None = None) -> int:
    """Enter a worker, or take over its row after a restart. Returns how many dead chunks were taken back.

    Args:
        engine: the ledger.
        profile: who it is; ``profile.config["instance"]`` names this process of this machine.
        succeeds: an instance that the caller knows to be dead, and whose place it takes at once.

    Raises:
        WorkerIdTaken: another live instance heartbeats under this id.
        WorkerQuarantined: its answers were wrong; nothing was changed.
    """
    vram_gb = profile.gpu_vram_gb
    (row,) = call_function(
        engine, "register_worker",
        worker=profile.worker_id, gpu_type=profile.gpu_type,
        gpu_vram_gb=None if vram_gb is None else str(vram_gb),  # sent as a float it is a double, and no function's real
        config=json.dumps(dict(profile.config)), prefect_worker=profile.prefect_worker,
        succeeds=succeeds, max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return int(row[0])


def claim_chunk(
    engine: Engine,
    *,
    chunk_id: UUID,
    worker_id: str,
    flow_run_id: UUID | None,
    size: int,
    languages: Sequence[str] = (),
    lease_s: int,
    suite: str,
) -> ChunkClaim | None:
    """Open a chunk of up to ``size`` videos. None: nothing is claimable now.

    ``chunk_id`` is drawn by the caller and is the fencing token. Repeating the call with the same token returns the
    same claim, so a call whose answer was lost may be repeated.

    Raises:
        WorkerUnknown: the worker never registered.
        FlowRunAlreadyHoldsChunk: the flow run holds another chunk of this worker.
        WorkerQuarantined: its answers were wrong; it gets nothing.
    """
    rows = call_function(
        engine, "claim_chunk",
        chunk=chunk_id, worker=worker_id, flow_run=flow_run_id, size=size,
        languages=list(languages) or None, lease_s=lease_s, suite=suite,
    )  # fmt: skip
    if not rows:
        return None
    videos = tuple(Video(row.video_id, row.language, row.segment_count, row.crashes) for row in rows)
    models = tuple(rows[0].models) if rows[0].models is not None else None
    return ChunkClaim(chunk_id, worker_id, rows[0].shard_number, lease_s, videos, models)


def renew_chunk(engine: Engine, claim: ChunkClaim, progress: Progress) -> None:
    """Move the lease and mirror the progress into the worker's row.

    Raises:
        ClaimLost: the chunk is not ours any more.
    """
    call_function(
        engine, "renew_chunk",
        chunk=claim.chunk_id, worker=claim.worker_id, lease_s=int(claim.lease_s), progress=json.dumps(asdict(progress)),
    )  # fmt: skip


def commit_chunk(
    engine: Engine,
    chunk_id: UUID,
    *,
    shard: ShardReceipt | None,
    validated: Mapping[str, int],
    failed: Sequence[VideoFailure],
    max_attempts: int,
    backoff_s: int = 60,
) -> None:
    """Close a chunk for good, all or nothing; may be repeated when the answer was lost.

    Args:
        engine: the ledger.
        chunk_id: the token.
        shard: what was uploaded; None if and only if ``validated`` is empty.
        validated: video id -> segments in the shard.
        failed: videos that have no rows in the shard. Transient ones go back to the queue until ``max_attempts``
            claims ended so, ten at most, after ``backoff_s`` seconds that double each time, up to a day.
        max_attempts: see ``failed``.
        backoff_s: see ``failed``.

    Raises:
        ClaimLost: the chunk is not ours any more: delete the shard and stop.
        LedgerRefused: a named video is not in the chunk, or ``shard.key`` is not the key of its shard.
    """
    receipt = json.dumps(asdict(shard)) if shard else None
    call_function(
        engine, "commit_chunk",
        chunk=chunk_id, shard=receipt,
        validated=json.dumps([{"video_id": video, "segments": n} for video, n in validated.items()]),
        failed=json.dumps([asdict(failure) for failure in failed]),
        max_attempts=max_attempts, backoff_s=backoff_s,
    )  # fmt: skip


def release_chunk(engine: Engine, chunk_id: UUID, *, reason: str) -> int:
    """Give an open chunk back; no attempt is lost. Returns how many videos went back.

    Raises:
        ClaimLost: the chunk is not open.
    """
    (row,) = call_function(engine, "release_chunk", chunk=chunk_id, reason=reason)
    return int(row[0])


def heartbeat_worker(
    engine: Engine, worker_id: str, *, instance: str | None = None, last_error: str | None = None
) -> None:
    """Say that the worker lives, whether or not it holds a chunk.

    ``instance`` fences this and the next two calls: the process that says it, as it registered. Without one this says
    nothing of the worker's life.

    Raises:
        WorkerIdTaken: another instance has taken the worker's row over; nothing was changed.
        WorkerQuarantined: to a worker that names its instance; nothing was changed.
    """
    call_function(engine, "heartbeat_worker", worker=worker_id, last_error=last_error, instance=instance)


def drain_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> None:
    """Announce that the worker takes no new chunk. Raises as ``heartbeat_worker``."""
    call_function(engine, "drain_worker", worker=worker_id, instance=instance)


def retire_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> int:
    """Say goodbye; returns how many chunks were still open and went back. Raises as ``heartbeat_worker``."""
    (row,) = call_function(engine, "retire_worker", worker=worker_id, instance=instance)
    return int(row[0])


@dataclass(frozen=True, slots=True)
class SweptChunk:
    """A chunk that was taken from a dead holder."""

    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None
    reason: str
    videos_returned: int
    videos_failed: int


def sweep_stale_claims(engine: Engine, *, ended_runs: Mapping[UUID, Seconds] | None = None) -> list[SweptChunk]:
    """Take back every chunk whose lease ended, or whose flow run did and whose holder fell silent with it.

    Args:
        engine: the ledger.
        ended_runs: flow runs that are known to have ended, and how long ago.
    """
    ended = dict(ended_runs or {})
    rows = call_function(
        engine, "sweep_stale_claims",
        ended_runs=list(ended), ended_ago_s=list(ended.values()), max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return [SweptChunk(*tuple(row)) for row in rows]


def requeue_stranded_videos(engine: Engine, *, older_than_s: int = 1800) -> int:
    """Take back videos that no open chunk holds. Returns how many; anything but 0 is worth a look."""
    (row,) = call_function(engine, "requeue_stranded_videos", older_than_s=older_than_s)
    return int(row[0])


def mark_stale_workers(engine: Engine, *, silent_s: int = HEARTBEAT_TIMEOUT_S) -> list[str]:
    """Mark workers stale that said nothing for so long, offline after a day. Returns who fell silent now."""
    return [row[0] for row in call_function(engine, "mark_stale_workers", silent_s=silent_s)]


@dataclass(frozen=True, slots=True)
class Requeue:
    """Which validated or failed videos to take: those that meet every condition. None of any meets all."""

    video_ids: Sequence[str] | None = None
    status: Literal["validated", "validation_failed"] | None = None
    languages: Sequence[str] | None = None
    worker_id: str | None = None
    """Who committed them last, or wrote something of them that is read: a worker's id, or a rented machine's label."""
    suite: str | None = None
    """Of which suite they have a current result."""
    revision: str | None = None
    """Of which revision they have a current result, as ``read_suite_revisions`` names it."""
    lacking: Mapping[str, str | None] | None = None
    """Models, with their revision or None for any: validated videos that some of them never answered for."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """How many videos of a language and a state went back to the queue, or would."""

    language: str
    status: str
    videos: int


def requeue_videos(engine: Engine, which: Requeue, *, dry_run: bool = False) -> list[Requeued]:
    """Give videos a fresh start; what they have stands for readers until the same is committed again.

    With ``which.lacking``, only those models are asked about them.
    """
    rows = call_function(
        engine, "requeue_videos",
        video_ids=None if which.video_ids is None else list(which.video_ids), status=which.status,
        languages=None if which.languages is None else list(which.languages), worker=which.worker_id,
        suite=which.suite, revision=which.revision,
        lacking=None if which.lacking is None else json.dumps(dict(which.lacking)), dry_run=dry_run,
    )  # fmt: skip
    return [Requeued(*tuple(row)) for row in rows]


def compact_shards(engine: Engine, shard: ShardReceipt, *, sources: Sequence[str], videos: Mapping[str, int]) -> None:
    """Let an uploaded shard stand for all that is current in others, in one moment.

    Args:
        engine: the ledger.
        shard: what was uploaded.
        sources: keys of the shards that it was made of.
        videos: video id -> segments in the new shard.

    Raises:
        CompactionConflict: a source holds something else by now; nothing changed.
    """
    call_function(
        engine, "compact_shards", shard=json.dumps(asdict(shard)), sources=list(sources),
        videos=json.dumps([{"video_id": video, "segments": n} for video, n in videos.items()]),
    )  # fmt: skip


def purge_retired_shards(engine: Engine, *, older_than_s: int) -> list[str]:
    """Give up the objects that no reader has needed for so long. Returns their keys, for the caller to delete."""
    return [row[0] for row in call_function(engine, "purge_retired_shards", older_than_s=older_than_s)]

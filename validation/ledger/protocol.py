"""The ledger's protocol: one Python function a SQL function.

Every write names its chunk; all times are the database's.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import Engine

from validation.domain import ChunkClaim, Progress, ShardReceipt, Video, VideoFailure, WorkerProfile
from validation.ledger.calls import call_ledger

MAX_CRASHES = 3
"""Deaths of its process after which a video is poison. Two would fail the innocent: a video can be in company
twice (pick_suspects), and only its third crash is certainly its own."""


def register_worker(engine: Engine, profile: WorkerProfile, *, succeeds: str | None = None) -> int:
    """Enter a worker, or take over its row after a restart. Returns how many dead chunks were taken back.

    Args:
        engine: the ledger.
        profile: who it is; ``profile.config["instance"]`` names this process of this machine.
        succeeds: an instance that the caller knows to be dead, and whose place it takes at once.

    Raises:
        WorkerIdTaken: another live instance heartbeats under this id.
    """
    (row,) = call_ledger(
        engine, "register_worker",
        worker=profile.worker_id, gpu_type=profile.gpu_type, gpu_vram_gb=profile.gpu_vram_gb,
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
    """
    rows = call_ledger(
        engine, "claim_chunk",
        chunk=chunk_id, worker=worker_id, flow_run=flow_run_id, size=size,
        languages=list(languages) or None, lease_s=lease_s, suite=suite,
    )  # fmt: skip
    if not rows:
        return None
    videos = tuple(Video(row.video_id, row.language, row.segment_count) for row in rows)
    return ChunkClaim(chunk_id, worker_id, rows[0].shard_number, lease_s, videos)


def renew_chunk(engine: Engine, claim: ChunkClaim, progress: Progress) -> None:
    """Move the lease and mirror the progress into the worker's row.

    Raises:
        ClaimLost: the chunk is not ours any more.
    """
    call_ledger(
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
            claims ended so, after ``backoff_s`` seconds that double each time.
        max_attempts: see ``failed``.
        backoff_s: see ``failed``.

    Raises:
        ClaimLost: the chunk is not ours any more: delete the shard and stop.
        LedgerRefused: a named video is not in the chunk.
    """
    receipt = json.dumps(asdict(shard)) if shard else None
    call_ledger(
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
    (row,) = call_ledger(engine, "release_chunk", chunk=chunk_id, reason=reason)
    return int(row[0])


def heartbeat_worker(
    engine: Engine, worker_id: str, *, instance: str | None = None, last_error: str | None = None
) -> None:
    """Say that the worker lives, whether or not it holds a chunk.

    ``instance`` fences this and the next two calls: the process that says it, as it registered.

    Raises:
        WorkerIdTaken: another instance has taken the worker's row over; nothing was changed.
    """
    call_ledger(engine, "heartbeat_worker", worker=worker_id, last_error=last_error, instance=instance)


def drain_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> None:
    """Announce that the worker takes no new chunk. Raises as ``heartbeat_worker``."""
    call_ledger(engine, "drain_worker", worker=worker_id, instance=instance)


def retire_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> int:
    """Say goodbye; returns how many chunks were still open and went back. Raises as ``heartbeat_worker``."""
    (row,) = call_ledger(engine, "retire_worker", worker=worker_id, instance=instance)
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


def sweep_stale_claims(engine: Engine, *, ended_runs: Sequence[UUID] = ()) -> list[SweptChunk]:
    """Take back every chunk whose lease ended, or whose flow run is known to have ended."""
    rows = call_ledger(engine, "sweep_stale_claims", ended_runs=list(ended_runs), max_crashes=MAX_CRASHES)
    return [SweptChunk(*tuple(row)) for row in rows]


def release_stranded_videos(engine: Engine, *, older_than_s: int = 1800) -> int:
    """Take back videos that no open chunk holds. Returns how many; anything but 0 is worth a look."""
    (row,) = call_ledger(engine, "release_stranded_videos", older_than_s=older_than_s)
    return int(row[0])


def flag_silent_workers(engine: Engine, *, silent_s: int = 120) -> list[str]:
    """Mark workers stale that said nothing for so long. Returns their ids."""
    return [row[0] for row in call_ledger(engine, "flag_silent_workers", silent_s=silent_s)]


def requeue_failed(engine: Engine, video_ids: Sequence[str] | None = None) -> int:
    """Give failed videos a fresh start: those named, or all. Returns how many."""
    ids = None if video_ids is None else list(video_ids)
    (row,) = call_ledger(engine, "requeue_failed", video_ids=ids)
    return int(row[0])

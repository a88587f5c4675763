"""The calls of a worker about its chunks and the queue. One Python function per SQL function.

Every call for a chunk has the token of the chunk, which the ledger checks. All times are by the database clock.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from uuid import UUID

from sqlalchemy import Engine

from validation.domain import ChunkClaim, Progress, ShardReceipt, Video, VideoFailure
from validation.escape import for_ledger
from validation.languages import list_language_spellings
from validation.ledger.rpc import call_function

MAX_CRASHES = 3
"""Number of crashes after which a video fails. A crash is the death of a flow process while its worker lives on.

After two crashes innocent videos would fail: a video can share two chunks with a video that kills the process, before
either is claimed alone (sql/functions/pick_crash_suspects.sql). The loss of a whole box is not a crash, but every
fourth loss counts as one (sql/functions/return_crashed_videos.sql). A chunk that ends by an unreachable ledger counts
as a loss. A video whose crashes boxes of only one owner with keys have reported first waits for a second witness, if a
box of another owner is online."""


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
    """Claim up to ``size`` pending videos as a new chunk. Chunks with an expired lease are taken back before.

    Videos with crashes are claimed first, in smaller chunks (sql/functions/pick_crash_suspects.sql). While
    the chunk is open, a second call with the same token returns the same claim, so a call whose reply was lost may be
    repeated.

    Args:
        engine: the ledger.
        chunk_id: the token of the claim, a random id that the caller draws.
        worker_id: the worker that will hold the chunk.
        flow_run_id: the flow run that processes the chunk; None outside of Prefect.
        size: maximum number of videos; a size above 1000 counts as 1000.
        languages: claim only videos of these languages; empty means every language. Each spelling of a language
            matches every other spelling in the queue.
        lease_s: seconds until the lease expires unless it is renewed; the ledger limits it to 10 to 3600.
        suite: the suite that will score the chunk.

    Returns:
        The claim; None if no video can be claimed now, if the worker is draining, or if a repeated call finds the chunk
        closed.

    Raises:
        WorkerUnknown: the worker never registered.
        FlowRunAlreadyHoldsChunk: the flow run holds another chunk of this worker.
        WorkerQuarantined: the worker is quarantined.
        BoxKeyRejected: the box key does not belong to this worker.
        LedgerRefused: the worker holds 16 open chunks; or a box with a key claimed videos within the last hour of which
            2,000 are not validated, and also four times as many as the best box of another owner validated.
    """
    rows = call_function(
        engine, "claim_chunk",
        chunk=chunk_id, worker=worker_id, flow_run=flow_run_id, size=size,
        languages=list_language_spellings(languages) or None, lease_s=lease_s, suite=suite,
    )  # fmt: skip
    if not rows:
        return None
    videos = tuple(Video(row.video_id, row.language, row.segment_count, row.crashes) for row in rows)
    models = tuple(rows[0].models) if rows[0].models is not None else None
    return ChunkClaim(chunk_id, worker_id, rows[0].shard_number, lease_s, videos, models)


def peek_videos(engine: Engine, worker_id: str, *, languages: Sequence[str] = (), count: int = 3) -> list[Video]:
    """Read up to ``count`` claimable videos without claiming them. The caller tests whether their tars can be fetched.

    ``languages`` filters as in ``claim_chunk``. More than ten videos are never returned.

    Raises:
        BoxKeyRejected: the box key does not belong to this worker.
    """
    rows = call_function(
        engine, "peek_videos", worker=worker_id, languages=list_language_spellings(languages) or None, count=count
    )
    return [Video(row.video_id, row.language, row.segment_count) for row in rows]


def peek_validated(engine: Engine, worker_id: str) -> list[Video]:
    """Read up to three validated videos. The caller tests whether their tars can still be fetched.

    Raises:
        BoxKeyRejected: the box key does not belong to this worker.
    """
    rows = call_function(engine, "peek_validated", worker=worker_id)
    return [Video(row.video_id, row.language, row.segment_count) for row in rows]


def count_labels(engine: Engine, worker_id: str, languages: Sequence[str] = ()) -> dict[str, int]:
    """Count pending videos per language label: label -> videos, most frequent first, at most 200 labels.

    The key "" counts videos without a label. ``languages`` filters as in ``claim_chunk``.

    Raises:
        BoxKeyRejected: the box key does not belong to this worker.
    """
    rows = call_function(engine, "count_labels", worker=worker_id, languages=list_language_spellings(languages) or None)
    counts = Counter[str]()
    for row in rows:
        counts[(row.language or "").strip()] += row.videos
    return dict(counts)


def renew_chunk(engine: Engine, claim: ChunkClaim, progress: Progress) -> None:
    """Extend the lease of a chunk, and record its progress in the rows of the chunk and of its worker.

    Raises:
        ClaimLost: the chunk is no longer open, or belongs to another worker.
        BoxKeyRejected: the box key does not belong to this worker.
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
    """Close a chunk and record its results in one transaction. May be repeated if the reply was lost.

    Videos of the chunk that are neither validated nor failed return to the queue without an attempt. A commit
    quarantines a box with a key if the box failed or postponed a hundred videos within an hour, more than it validated,
    in languages that other boxes validate (sql/functions/check_failures.sql).

    Args:
        engine: the ledger.
        chunk_id: the token of the chunk.
        shard: the receipt of the uploaded shard; None if and only if ``validated`` is empty.
        validated: video id -> segments in the shard.
        failed: videos without rows in the shard. An uncharged failure puts its video back into the queue with a
            back-off and without an attempt. A charged transient failure counts an attempt and puts its video
            back into the queue, until ``max_attempts`` attempts have failed. The video becomes claimable after
            ``backoff_s`` seconds, doubled per attempt, one day at most. Any other failure is final; if a box with
            a key reports it, the video first waits for a second witness.
        max_attempts: number of attempts with which a video fails; more than 10 count as 10.
        backoff_s: seconds until a video is claimable after its first failed attempt; more than 3600 count as 3600.

    Raises:
        ClaimLost: the chunk is no longer open: delete the shard and stop.
        LedgerRefused: a video is not in the chunk or is given twice, ``shard.key`` is not the shard key of the chunk,
            or a number is out of range.
        BoxKeyRejected: the box key does not belong to the holder of the chunk.
    """
    receipt = json.dumps(asdict(shard)) if shard else None
    call_function(
        engine, "commit_chunk",
        chunk=chunk_id, shard=receipt,
        validated=json.dumps([{"video_id": video, "segments": n} for video, n in validated.items()]),
        failed=json.dumps([asdict(failure) for failure in failed]),
        max_attempts=max_attempts, backoff_s=backoff_s,
    )  # fmt: skip


def renumber_chunk(engine: Engine, chunk_id: UUID, *, above: int) -> int:
    """Give an open chunk a shard number larger than ``above`` and all shard numbers of its worker. Returns the number.

    Raises:
        ClaimLost: the chunk is not open.
        BoxKeyRejected: the box key does not belong to the holder of the chunk.
        LedgerRefused: ``above`` is not between 0 and 99,999,999.
    """
    (row,) = call_function(engine, "renumber_chunk", chunk=chunk_id, above=above)
    return int(row[0])


def release_chunk(engine: Engine, chunk_id: UUID, *, reason: str) -> int:
    """Release an open chunk without counting an attempt. Returns the number of videos that went back to the queue.

    Raises:
        ClaimLost: the chunk is not open.
        BoxKeyRejected: the box key does not belong to the holder of the chunk.
    """
    (row,) = call_function(engine, "release_chunk", chunk=chunk_id, reason=for_ledger(reason))
    return int(row[0])

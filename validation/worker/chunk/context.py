"""The services that a worker needs to process chunks, and one leased chunk from its claim to its commit.

The modules that write a shard are imported only when one is written: a flow process that finds no work needs no
pyarrow.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from obstore.store import ObjectStore
from sqlalchemy import Engine
from tenacity import Retrying, retry_if_exception_type, wait_fixed, wait_random

from validation.corpus.fetch import fetch_layout, fetch_video
from validation.domain import ChunkClaim, DecodedVideo, Progress, Seconds, Video
from validation.errors import ClaimLost, FleetError, Permanent, Transient
from validation.ledger.chunks import claim_chunk, commit_chunk, peek_validated, release_chunk, renumber_chunk
from validation.ledger.rpc import WorkerUnknown
from validation.models.scorer import Scorer, restrict_models
from validation.settings import Settings
from validation.storage.errors import ObjectExists
from validation.worker.chunk.lease import RETRY_S, LeaseRenewer
from validation.worker.chunk.runner import ChunkRunner, GroupIncomplete
from validation.worker.profile import temporary_registration

if TYPE_CHECKING:
    from validation.worker.chunk.shard import EncodedShard

MAX_RENUMBERINGS = 5
"""Maximum number of shard keys that one upload tries. The second key is free, unless another process with the same
worker id takes it."""


class ShardKeysTaken(Transient):
    """All shard keys that were tried hold other shards. The chunk is released; nothing was overwritten."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(f"{MAX_RENUMBERINGS} shard keys of worker {worker_id} are taken: does another box use its id?")


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """The services of one worker: ledger, object stores and models. Opened once per process."""

    settings: Settings
    engine: Engine
    source: ObjectStore
    results: ObjectStore
    scorer: Scorer
    draining: Callable[[], bool]
    """A function that returns whether this process must drain."""
    _requested_at: dict[UUID, Seconds] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Time of the first request of each claim that is not open yet (monotonic clock)."""

    def claim(
        self, chunk_id: UUID, *, flow_run_id: UUID | None, size: int, languages: Sequence[str]
    ) -> ChunkClaim | None:
        """Claim a chunk under the token ``chunk_id``; return None if no video can be claimed or the worker drains.

        The caller draws the token at random. If the answer to a claim was lost, a call with the same token returns that
        claim, even in a drain.
        """
        if chunk_id not in self._requested_at and self.draining():
            return None
        self._requested_at.setdefault(chunk_id, time.monotonic())
        return claim_chunk(
            self.engine,
            chunk_id=chunk_id,
            worker_id=self.settings.worker_id,
            flow_run_id=flow_run_id,
            size=size,
            languages=languages,
            lease_s=self.settings.lease_s,
            suite=self.scorer.name,
        )

    @contextmanager
    def open_chunk(self, claim: ChunkClaim, *, flow_run_id: UUID | None) -> Iterator["LeasedChunk"]:
        """Renew the lease of a claim while the block runs. At its end, release the chunk unless it is committed.

        An error that ends the block costs no video an attempt. Only ``commit`` counts attempts, for the errors of
        ``VIDEO_ERRORS``.
        """
        runner = ChunkRunner(
            claim,
            fetch=self._fetch,
            scorer=restrict_models(self.scorer, claim.models),
            settings=self.settings,
            draining=self.draining,
            flow_run_id=flow_run_id,
        )
        runner.log.info(
            "claimed chunk %s: %d videos, shard %d",
            *(claim.chunk_id, len(claim.videos), claim.shard_number),
            extra={"event": "chunk_claimed", "videos": len(claim.videos), "shard_number": claim.shard_number},
        )
        lease = LeaseRenewer(
            self.engine,
            claim,
            runner.progress,
            period_s=self.settings.heartbeat_s,
            requested_at=self._requested_at.pop(claim.chunk_id, None),
        )
        chunk = LeasedChunk(self, runner, lease, flow_run_id)
        cause: Exception | None = None
        try:
            with lease:
                yield chunk
        except Exception as error:
            cause = error
            raise
        finally:
            runner.stop()
            if not chunk.committed:
                chunk.release(cause)

    def can_read_validated_video(self) -> bool:
        """Return whether one of up to three earlier validated videos can be read from the source now.

        Raises:
            Transient: the ledger or the store does not answer.
            BadInput: the store rejects this client.
        """
        for video in peek_validated(self.engine, self.settings.worker_id):
            with suppress(Permanent):
                fetch_layout(self.source, self._key_of(video))
                return True
        return False

    def _fetch(self, video: Video) -> DecodedVideo:
        return fetch_video(self.source, self._key_of(video), video)

    def _key_of(self, video: Video) -> str:
        """Return the object key of a video's tar."""
        return self.settings.source_key.format(video_id=video.video_id)


@dataclass(slots=True)
class LeasedChunk:
    """A claimed chunk, its lease, and its shard once it is encoded."""

    context: ChunkContext
    runner: ChunkRunner
    lease: LeaseRenewer
    flow_run_id: UUID | None
    committed: bool = False
    _encoded: "EncodedShard | None" = field(default=None)
    _opened_at: Seconds = field(default_factory=time.monotonic)

    def write_shard(self) -> "EncodedShard | None":
        """Encode and upload the rows; return the shard, or None if there are no rows.

        A repeated call sends the bytes that were encoded before, and an object with the same bytes in the store is
        accepted. The rows are encoded again only if another shard has the key.

        Raises:
            ClaimLost: the lease is lost; this call left nothing new in the store.
            ShardKeysTaken: all keys that were tried hold other shards.
        """
        if not self.runner.rows:
            return None
        started_at = time.monotonic()
        receipt, duration_s = self._upload().receipt, time.monotonic() - started_at
        self.runner.log.info(
            "wrote shard %s in %.1f s: %d rows, %d bytes",
            *(receipt.key, duration_s, receipt.segments, receipt.size_bytes),
            extra={
                "event": "shard_written", "shard_key": receipt.key, "rows": receipt.segments,
                "size_bytes": receipt.size_bytes, "duration_s": round(duration_s, 3),
            },
        )  # fmt: skip
        return self._encoded

    def _upload(self) -> "EncodedShard":
        """Upload the shard under the chunk's key, or under a free key if another shard has that key."""
        from validation.worker.chunk.shard import encode_chunk, upload_shard  # noqa: PLC0415 - see the module

        for _ in range(MAX_RENUMBERINGS):
            if self._encoded is None:
                self._encoded = encode_chunk(self.runner, self.runner.scorer, flow_run_id=self.flow_run_id)
            shard = self._encoded
            self.lease.ensure_held()
            try:
                upload_shard(self.context.results, shard)
            except ObjectExists:
                self._encoded = None  # the object under this key belongs to another chunk: it must not be deleted
                self._renumber(shard.manifest.key)
            else:
                return shard
        raise ShardKeysTaken(self.runner.claim.worker_id)

    def _renumber(self, taken: str) -> None:
        """Give the chunk a shard number that is free in the bucket.

        A number may be taken if the ledger was restored from a backup.
        """
        from validation.shards.manifest import highest_shard_number  # noqa: PLC0415 - see the module

        claim, results = self.runner.claim, self.context.results
        highest = max(highest_shard_number(results, claim.worker_id), claim.shard_number)
        number = renumber_chunk(self.context.engine, claim.chunk_id, above=highest)
        self.runner.log.warning("%s is taken by another shard: this chunk has shard number %d now", taken, number)
        self.runner.claim = replace(claim, shard_number=number)

    def commit(self) -> None:
        """Commit the chunk in the ledger. The call may be repeated.

        Raises:
            ClaimLost: the chunk belongs to this worker no more; ``release`` deletes the shard.
            SourceMismatch: all videos of the chunk fail alike, and no earlier validated video can be read. Nothing was
                committed.
        """
        try:
            self.lease.ensure_held()
        except ClaimLost as lost:
            if lost.state != "committed":  # an earlier attempt committed and its answer was lost: ask again
                raise
        commit_chunk(
            self.context.engine,
            self.runner.claim.chunk_id,
            shard=self._encoded.receipt if self._encoded else None,
            validated={video_id: len(rows) for video_id, rows in self.runner.rows.items()},
            failed=self.runner.failures_to_commit(source_is_sound=self.context.can_read_validated_video),
            max_attempts=self.context.settings.max_attempts,
        )
        self.committed = True
        self._log_commit()

    def release(self, cause: Exception | None = None) -> None:
        """Return the videos to the queue, and delete a shard that the ledger does not know.

        If the ledger says that the chunk is committed, the shard is kept and ``committed`` is set. If the ledger does
        not answer, the shard is kept too, because an earlier commit may have arrived. The sweep then takes the chunk
        back, unless it is committed.

        Args:
            cause: the error that ended the chunk; None if there was none.
        """
        chunk_id = self.runner.claim.chunk_id
        try:
            reason = f"given back: {type(cause).__name__}: {cause}" if cause else "given back by its holder"
            release_chunk(self.context.engine, chunk_id, reason=reason)
        except ClaimLost as lost:
            if lost.state == "committed":
                self.committed = True
                self._log_commit()
                return
        except FleetError as error:
            self._log_release(f"left to the sweep, because the ledger does not answer: {error}")
            return
        if self._encoded is not None:
            from validation.shards.manifest import delete_shard  # noqa: PLC0415 - see the module

            delete_shard(self.context.results, self._encoded.manifest.key)
        self._log_release(str(cause) if cause else "not finished")

    def _log_commit(self) -> None:
        done, duration_s = self.runner.progress(), time.monotonic() - self._opened_at
        chunk_id = self.runner.claim.chunk_id
        verdicts = dict(self._encoded.receipt.verdicts or {}) if self._encoded else {}
        self.runner.log.info(
            "committed chunk %s in %.1f s: %d videos validated, %d failed, %d segments %s",
            *(chunk_id, duration_s, done.videos_validated, done.videos_failed, done.segments, verdicts),
            extra={
                "event": "chunk_committed", "videos_validated": done.videos_validated,
                "videos_failed": done.videos_failed, "segments": done.segments, "duration_s": round(duration_s, 3),
                **{f"segments_{verdict}": count for verdict, count in verdicts.items()},
            },
        )  # fmt: skip

    def _log_release(self, reason: str) -> None:
        """Log that the chunk was not committed."""
        self.runner.log.warning(
            "chunk %s was not committed: %s",
            *(self.runner.claim.chunk_id, reason),
            extra={"event": "chunk_released", "reason": reason},
        )


def run_chunk_here(context: ChunkContext, *, size: int | None = None) -> Progress | None:
    """Run ``run_chunk``; if this machine was never registered as a worker, register it while the chunk runs."""
    try:
        return run_chunk(context, size=size)
    except WorkerUnknown:
        with temporary_registration(context.engine, context.settings):
            return run_chunk(context, size=size)


def run_chunk(context: ChunkContext, *, size: int | None = None) -> Progress | None:
    """Claim a chunk and process it without Prefect; return its progress, None if no chunk was claimed.

    A transient error while the shard is written or the chunk is committed is retried for as long as the lease is held.
    Other steps are not retried.
    """
    settings = context.settings
    claim = context.claim(uuid4(), flow_run_id=None, size=size or settings.chunk_videos, languages=settings.languages)
    if claim is None:
        return None
    with context.open_chunk(claim, flow_run_id=None) as chunk:
        _score_groups(chunk)
        retry_while_held = Retrying(
            retry=retry_if_exception_type(Transient), wait=wait_fixed(RETRY_S) + wait_random(0, RETRY_S), reraise=True
        )
        retry_while_held(chunk.write_shard)
        retry_while_held(chunk.commit)
    return chunk.runner.progress()


def _score_groups(chunk: LeasedChunk) -> None:
    """Score the groups in order while one thread fetches the next ones."""
    runner = chunk.runner
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        fetches = [pool.submit(runner.fetch_group, number) for number in range(len(runner.groups))]
        try:
            for number, fetch in enumerate(fetches):
                runner.prefetch.set_head(number)
                try:
                    fetch.result()
                except GroupIncomplete as incomplete:
                    runner.fail_missing(number, incomplete)
                runner.score_group(number, ensure_held=chunk.lease.ensure_held)
        finally:
            runner.stop()  # a fetcher may wait for a place that is never freed

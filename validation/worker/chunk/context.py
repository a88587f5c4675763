"""What a box needs to work on chunks, opened once a process; and the holding of one chunk."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.corpus.fetch import fetch_video
from validation.domain import ChunkClaim, DecodedVideo, Seconds, Video, VideoFailure
from validation.errors import BadInput, ClaimLost, FleetError, Transient
from validation.ledger.chunks import claim_chunk, commit_chunk, release_chunk
from validation.models.base import Scorer
from validation.settings import Settings
from validation.shards.bucket import delete_shard
from validation.storage.errors import ObjectExists
from validation.worker.chunk.lease import LeaseRenewer
from validation.worker.chunk.runner import ChunkRunner
from validation.worker.chunk.shard import EncodedShard, encode_chunk, upload_shard
from validation.worker.chunk.subset import restrict_models

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChunkContext:
    """The services of one box: ledger, object stores and models."""

    settings: Settings
    engine: Engine
    source: ObjectStore
    results: ObjectStore
    scorer: Scorer
    draining: Callable[[], bool]
    _asked_at: dict[UUID, Seconds] = field(default_factory=dict, init=False, repr=False, compare=False)
    """When each claim that is not held yet was first asked for, by the monotonic clock."""

    def claim(
        self, chunk_id: UUID, *, flow_run_id: UUID | None, size: int, languages: Sequence[str]
    ) -> ChunkClaim | None:
        """Claim a chunk under a token drawn by the caller; None when nothing is claimable, or nothing new is wanted.

        May be repeated under the same token, which finds a claim whose answer was lost.
        """
        if chunk_id not in self._asked_at and self.draining():
            return None
        self._asked_at.setdefault(chunk_id, time.monotonic())
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

    def _fetch(self, video: Video) -> DecodedVideo:
        return fetch_video(self.source, self.settings.source_key.format(video_id=video.video_id), video)

    @contextmanager
    def hold(self, claim: ChunkClaim, *, flow_run_id: UUID | None) -> Iterator["LeasedChunk"]:
        """Keep a claim's lease while it is worked on. What was not committed at the end goes back to the queue.

        It loses no attempt by what may heal, by a wrong setting or by a drain. A failure of another kind would meet
        whoever claims the videos next: it spends an attempt of each and stands in the queue as their error.
        """
        work = ChunkRunner(
            claim,
            fetch=self._fetch,
            scorer=restrict_models(self.scorer, claim.models),
            settings=self.settings,
            draining=self.draining,
        )
        lease = LeaseRenewer(
            self.engine,
            claim,
            work.progress,
            period_s=self.settings.heartbeat_s,
            asked_at=self._asked_at.pop(claim.chunk_id, None),
        )
        held = LeasedChunk(self, work, lease, flow_run_id)
        failure: Exception | None = None
        try:
            with lease:
                yield held
        except (Transient, ClaimLost, BadInput):
            raise
        except Exception as error:
            failure = None if self.draining() else error
            raise
        finally:
            work.stop()
            if not held.committed:
                held.give_back(failure)


@dataclass(slots=True)
class LeasedChunk:
    """A claimed chunk, its lease, and what of it has left this process."""

    session: ChunkContext
    work: ChunkRunner
    lease: LeaseRenewer
    flow_run_id: UUID | None
    committed: bool = False
    _encoded: EncodedShard | None = field(default=None)

    def write_shard(self) -> EncodedShard | None:
        """Encode and upload what was scored; None if nothing was. May be repeated: the same bytes are written once.

        Raises:
            ClaimLost: nothing was written.
            ObjectExists: another shard has this name; it was not touched.
        """
        if not self.work.rows:
            return None
        if self._encoded is None:
            self._encoded = encode_chunk(self.work, self.work.scorer, flow_run_id=self.flow_run_id)
        self.lease.require()
        try:
            upload_shard(self.session.results, self._encoded)
        except ObjectExists:
            self._encoded = None  # what lies there is somebody else's, and not ours to delete
            raise
        return self._encoded

    def commit(self) -> None:
        """Close the chunk in the ledger. May be repeated.

        Raises:
            ClaimLost: the chunk was taken; ``give_back`` deletes the shard.
        """
        self.lease.require()
        commit_chunk(
            self.session.engine,
            self.work.claim.chunk_id,
            shard=self._encoded.receipt if self._encoded else None,
            validated={video_id: len(rows) for video_id, rows in self.work.rows.items()},
            failed=self.work.own_failures(),
            max_attempts=self.session.settings.max_attempts,
        )
        self.committed = True

    def give_back(self, failure: Exception | None = None) -> None:
        """Return what is held, and leave no shard behind that the ledger does not know.

        A ledger that cannot be asked is left to the sweeper: the commit may have arrived though its answer did not.

        Args:
            failure: what each video that has not failed by itself is to be blamed for; None for nothing.
        """
        chunk_id = self.work.claim.chunk_id
        try:
            if failure is None:
                release_chunk(self.session.engine, chunk_id, reason="given back by its holder")
            else:
                self._commit_failure(failure)
        except ClaimLost as lost:
            if lost.state == "committed":
                self.committed = True
                return
        except FleetError as error:
            log.warning("chunk %s is left to the sweeper: %s", chunk_id, error)
            return
        if self._encoded is not None:
            delete_shard(self.session.results, self._encoded.manifest.key)

    def _commit_failure(self, failure: Exception) -> None:
        claim, own = self.work.claim, self.work.failures
        error = f"{type(failure).__name__}: {failure}"
        commit_chunk(
            self.session.engine,
            claim.chunk_id,
            shard=None,
            validated={},
            failed=[own.get(v.video_id) or VideoFailure(v.video_id, error, transient=True) for v in claim.videos],
            max_attempts=self.session.settings.max_attempts,
        )

"""What a box needs to work on chunks, opened once a process; and the holding of one chunk."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.chunk.judge import Scorer
from validation.chunk.lease import LeaseKeeper
from validation.chunk.partial import narrow_scorer
from validation.chunk.shard import EncodedShard, delete_shard, encode_chunk, upload_shard
from validation.chunk.work import ChunkWork
from validation.corpus.fetch import fetch_video
from validation.corpus.store_errors import ObjectExists
from validation.domain import ChunkClaim, DecodedVideo, Video
from validation.errors import ClaimLost, FleetError
from validation.ledger.protocol import claim_chunk, commit_chunk, release_chunk
from validation.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """The services of one box: ledger, object stores and models."""

    settings: Settings
    engine: Engine
    source: ObjectStore
    results: ObjectStore
    scorer: Scorer
    draining: Callable[[], bool]

    def claim(
        self, chunk_id: UUID, *, flow_run_id: UUID | None, size: int, languages: Sequence[str]
    ) -> ChunkClaim | None:
        """Claim a chunk under a token drawn by the caller; None when nothing is claimable."""
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
    def hold(self, claim: ChunkClaim, *, flow_run_id: UUID | None) -> Iterator["HeldChunk"]:
        """Keep a claim's lease while it is worked on. What was not committed at the end is given back."""
        work = ChunkWork(
            claim,
            fetch=self._fetch,
            scorer=narrow_scorer(self.scorer, claim.models),
            settings=self.settings,
            draining=self.draining,
        )
        lease = LeaseKeeper(self.engine, claim, work.progress, period_s=self.settings.heartbeat_s)
        held = HeldChunk(self, work, lease, flow_run_id)
        try:
            with lease:
                yield held
        finally:
            work.stop()
            if not held.committed:
                held.give_back()


@dataclass(slots=True)
class HeldChunk:
    """A claimed chunk, its lease, and what of it has left this process."""

    session: Session
    work: ChunkWork
    lease: LeaseKeeper
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

    def give_back(self) -> None:
        """Return what is held, and leave no shard behind that the ledger does not know.

        A ledger that cannot be asked is left to the sweeper: the commit may have arrived though its answer did not.
        """
        chunk_id = self.work.claim.chunk_id
        try:
            release_chunk(self.session.engine, chunk_id, reason="given back by its holder")
        except ClaimLost as lost:
            if lost.state == "committed":
                self.committed = True
                return
        except FleetError as error:
            log.warning("chunk %s is left to the sweeper: %s", chunk_id, error)
            return
        if self._encoded is not None:
            delete_shard(self.session.results, self._encoded)

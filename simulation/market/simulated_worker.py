"""Simulated workers. They call the ledger as real workers do, but score no segments."""

import hashlib
import json
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import Engine

from simulation.fake_vast.cloud import Cloud
from simulation.fake_vast.rental import Rental
from validation.domain import ChunkClaim, Progress, Seconds, ShardReceipt, WorkerProfile
from validation.errors import ClaimLost
from validation.ledger.chunks import claim_chunk, commit_chunk, renew_chunk
from validation.ledger.rpc import WorkerIdTaken
from validation.ledger.workers import heartbeat_worker, register_worker
from validation.shards.naming import shard_key
from validation.vast.offer_filter import PREDICTED_SEGMENTS_PER_S

LEASE_S = 300
"""Seconds of a lease. It is longer than a step of the simulation, so that a lease is renewed in time."""
SEGMENT_S: Seconds = 8.0
"""Seconds of audio per segment."""
SUITE = "simulated"


@dataclass
class ChunkInProgress:
    """A claimed chunk that is partly done."""

    claim: ChunkClaim
    done: float = 0.0
    """Number of finished segments; it may be a fraction."""
    spent_s: Seconds = 0.0
    """Seconds of work so far."""

    @property
    def segments(self) -> int:
        return sum(video.segment_count or 0 for video in self.claim.videos)

    def progress(self, segments_per_s: float) -> Progress:
        each = self.segments / len(self.claim.videos)
        return Progress(
            current_video_id=self.claim.videos[min(int(self.done / each), len(self.claim.videos) - 1)].video_id,
            videos_validated=int(self.done / each),
            segments=int(self.done),
            segments_per_s=segments_per_s,
        )


@dataclass
class SimulatedWorker:
    """The worker of one box. It registers, claims chunks, sends heartbeats, and commits shards of a few bytes."""

    ledger: Engine
    rental: Rental
    chunk_videos: int
    gpu_seen: str
    useful_s: Seconds = 0.0
    """Seconds of work on chunks that the worker committed."""
    lost_chunks: int = 0
    refusals: int = 0
    """Number of calls that the ledger refused because another worker with the same worker id is alive."""
    _registered: bool = False
    _chunk: ChunkInProgress | None = None

    @property
    def worker_id(self) -> str:
        return str(self.rental.order["env"]["WORKER_ID"])

    @property
    def instance(self) -> str:
        return f"simulated-{self.rental.id}"

    def run(self, seconds: Seconds, share: float) -> None:
        """Work for ``seconds`` at ``share`` of the GPU's normal speed."""
        try:
            if not self._registered:
                self._register()
            self._work(seconds, share * PREDICTED_SEGMENTS_PER_S[self.rental.offer["gpu_name"]])
        except WorkerIdTaken:
            self.refusals += 1
            self._registered = False

    def _register(self) -> None:
        config = {"instance": self.instance, "gpus": [{"name": self.gpu_seen}], "budgets": {"flow_runs": 1}}
        register_worker(self.ledger, WorkerProfile(self.worker_id, self.gpu_seen, 24.0, config))
        self._registered = True

    def _work(self, seconds: Seconds, segments_per_s: float) -> None:
        left_s = seconds
        while left_s > 0 and (chunk := self._chunk or self._claim()):
            spent_s = min(left_s, (chunk.segments - chunk.done) / segments_per_s)
            chunk.done += spent_s * segments_per_s
            chunk.spent_s += spent_s
            left_s -= spent_s
            if chunk.done >= chunk.segments - 1e-6:  # sums of floats have rounding errors
                self._end(chunk)
        if self._chunk:
            self._renew(self._chunk, segments_per_s)
        heartbeat_worker(self.ledger, self.worker_id, instance=self.instance)

    def _claim(self) -> ChunkInProgress | None:
        claim = claim_chunk(
            self.ledger, chunk_id=uuid4(), worker_id=self.worker_id, flow_run_id=uuid4(), size=self.chunk_videos,
            lease_s=LEASE_S, suite=SUITE,
        )  # fmt: skip
        self._chunk = ChunkInProgress(claim) if claim else None
        return self._chunk

    def _renew(self, chunk: ChunkInProgress, segments_per_s: float) -> None:
        try:
            renew_chunk(self.ledger, chunk.claim, chunk.progress(segments_per_s))
        except ClaimLost:
            self._lose()

    def _end(self, chunk: ChunkInProgress) -> None:
        claim = chunk.claim
        payload = json.dumps([video.video_id for video in claim.videos]).encode()
        shard = ShardReceipt(
            key=shard_key(claim.worker_id, claim.shard_number), sha256=hashlib.sha256(payload).hexdigest(),
            size_bytes=len(payload), segments=chunk.segments, suite=SUITE, audio_s=chunk.segments * SEGMENT_S,
        )  # fmt: skip
        validated = {video.video_id: video.segment_count or 0 for video in claim.videos}
        try:
            commit_chunk(self.ledger, claim.chunk_id, shard=shard, validated=validated, failed=[], max_attempts=3)
        except ClaimLost:
            self._lose()
            return
        self.useful_s += chunk.spent_s
        self._chunk = None

    def _lose(self) -> None:
        self.lost_chunks += 1
        self._chunk = None


@dataclass
class SimulatedWorkers:
    """The simulated workers, one per instance whose container works."""

    ledger: Engine
    cloud: Cloud
    chunk_videos: int
    wrong_gpu: set[int] = field(default_factory=set)
    """Ids of instances whose driver reports another GPU than the rented one."""
    _workers: dict[int, SimulatedWorker] = field(default_factory=dict)

    def run(self, seconds: Seconds) -> None:
        """Run the worker of every working instance for ``seconds``."""
        for rental in self.cloud.living():
            if (share := rental.speed(self.cloud.now)) > 0:
                self._worker_of(rental).run(seconds, share)

    @property
    def useful_s(self) -> Seconds:
        """Seconds of work on chunks that were committed."""
        return sum(worker.useful_s for worker in self._workers.values())

    @property
    def lost_chunks(self) -> int:
        """Number of chunks that a worker lost because the lease had expired."""
        return sum(worker.lost_chunks for worker in self._workers.values())

    @property
    def refusals(self) -> int:
        """Number of calls that the ledger refused because another worker with the same worker id is alive."""
        return sum(worker.refusals for worker in self._workers.values())

    def _worker_of(self, rental: Rental) -> SimulatedWorker:
        if rental.id not in self._workers:
            name = "GTX 1060" if rental.id in self.wrong_gpu else f"GeForce {rental.offer['gpu_name']}"
            self._workers[rental.id] = SimulatedWorker(self.ledger, rental, self.chunk_videos, f"NVIDIA {name}")
        return self._workers[rental.id]

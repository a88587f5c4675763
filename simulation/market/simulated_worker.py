"""Boxes that do everything a worker does to the ledger, and none of the work."""

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
from validation.vast.offers import PREDICTED_SEGMENTS_PER_S

LEASE_S = 300
"""Longer than between two steps of a simulation, as the real one is longer than between two heartbeats."""
SEGMENT_S: Seconds = 8.0
"""Of audio."""
SUITE = "stand-in"


@dataclass
class HeldWork:
    """A chunk under way."""

    claim: ChunkClaim
    done: float = 0.0
    """Segments."""
    spent_s: Seconds = 0.0

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
    """One box's worker: registers, claims, heartbeats, commits shards of a few bytes. Silent while its machine is."""

    ledger: Engine
    contract: Rental
    chunk_videos: int
    gpu_seen: str
    useful_s: Seconds = 0.0
    """Spent on chunks that it committed."""
    lost_chunks: int = 0
    refusals: int = 0
    """Registrations that failed because another machine lives under its name."""
    _registered: bool = False
    _held: HeldWork | None = None

    @property
    def worker_id(self) -> str:
        return str(self.contract.order["env"]["WORKER_ID"])

    @property
    def instance(self) -> str:
        return f"stand-in-{self.contract.id}"

    def live(self, seconds: Seconds, share: float) -> None:
        """Live for some seconds at a share of the card's normal speed."""
        try:
            if not self._registered:
                self._register()
            self._work(seconds, share * PREDICTED_SEGMENTS_PER_S[self.contract.offer["gpu_name"]])
        except WorkerIdTaken:
            self.refusals += 1
            self._registered = False

    def _register(self) -> None:
        config = {"instance": self.instance, "gpus": [{"name": self.gpu_seen}], "budgets": {"flow_runs": 1}}
        register_worker(self.ledger, WorkerProfile(self.worker_id, self.gpu_seen, 24.0, config))
        self._registered = True

    def _work(self, seconds: Seconds, segments_per_s: float) -> None:
        left_s = seconds
        while left_s > 0 and (held := self._held or self._claim()):
            spent_s = min(left_s, (held.segments - held.done) / segments_per_s)
            held.done += spent_s * segments_per_s
            held.spent_s += spent_s
            left_s -= spent_s
            if held.done >= held.segments - 1e-6:  # sums of seconds are not exact
                self._end(held)
        if self._held:
            self._renew(self._held, segments_per_s)
        heartbeat_worker(self.ledger, self.worker_id, instance=self.instance)

    def _claim(self) -> HeldWork | None:
        claim = claim_chunk(
            self.ledger, chunk_id=uuid4(), worker_id=self.worker_id, flow_run_id=uuid4(), size=self.chunk_videos,
            lease_s=LEASE_S, suite=SUITE,
        )  # fmt: skip
        self._held = HeldWork(claim) if claim else None
        return self._held

    def _renew(self, held: HeldWork, segments_per_s: float) -> None:
        try:
            renew_chunk(self.ledger, held.claim, held.progress(segments_per_s))
        except ClaimLost:
            self._lose()

    def _end(self, held: HeldWork) -> None:
        claim = held.claim
        payload = json.dumps([video.video_id for video in claim.videos]).encode()
        shard = ShardReceipt(
            key=shard_key(claim.worker_id, claim.shard_number), sha256=hashlib.sha256(payload).hexdigest(),
            size_bytes=len(payload), segments=held.segments, suite=SUITE, audio_s=held.segments * SEGMENT_S,
        )  # fmt: skip
        validated = {video.video_id: video.segment_count or 0 for video in claim.videos}
        try:
            commit_chunk(self.ledger, claim.chunk_id, shard=shard, validated=validated, failed=[], max_attempts=3)
        except ClaimLost:
            self._lose()
            return
        self.useful_s += held.spent_s
        self._held = None

    def _lose(self) -> None:
        self.lost_chunks += 1
        self._held = None


@dataclass
class Boxes:
    """A stand-in on every machine of the vendor's whose container works."""

    ledger: Engine
    cloud: Cloud
    chunk_videos: int
    lying: set[int] = field(default_factory=set)
    """Machines whose driver names another card than the one that is paid for."""
    _boxes: dict[int, SimulatedWorker] = field(default_factory=dict)

    def live(self, seconds: Seconds) -> None:
        """Let every box live for some seconds."""
        for contract in self.cloud.living():
            if (share := contract.speed(self.cloud.now)) > 0:
                self._box_of(contract).live(seconds, share)

    @property
    def useful_s(self) -> Seconds:
        """Spent on chunks that were committed."""
        return sum(box.useful_s for box in self._boxes.values())

    @property
    def lost_chunks(self) -> int:
        """Chunks that were taken from boxes which came back too late."""
        return sum(box.lost_chunks for box in self._boxes.values())

    @property
    def refusals(self) -> int:
        """How often a box found another one alive under its name."""
        return sum(box.refusals for box in self._boxes.values())

    def _box_of(self, contract: Rental) -> SimulatedWorker:
        if contract.id not in self._boxes:
            name = "GTX 1060" if contract.id in self.lying else f"GeForce {contract.offer['gpu_name']}"
            self._boxes[contract.id] = SimulatedWorker(self.ledger, contract, self.chunk_videos, f"NVIDIA {name}")
        return self._boxes[contract.id]

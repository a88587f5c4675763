"""Workers that call the real ledger functions but score no segments.

A worker repeats these calls: claim, two renewals, a heartbeat, commit. Workers are divided among several processes, so
that they wait less for Python's global interpreter lock.
"""

import random
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from sqlalchemy import Engine, create_engine

from validation.domain import ChunkClaim, Progress, ShardReceipt, VideoFailure, WorkerProfile
from validation.errors import Transient
from validation.ledger.chunks import claim_chunk, commit_chunk, renew_chunk
from validation.ledger.engine import CONNECT_ARGS, parse_database_url
from validation.ledger.workers import heartbeat_worker, register_worker

SEGMENTS = 90
"""Number of segments per video, as in the corpus."""
AUDIO_S = 6.0
"""Seconds of audio per segment."""

Sample = tuple[str, float, float]
"""The name of a ledger call, the time of its return in epoch seconds, and its latency in seconds."""


@dataclass
class WorkerGroup:
    """The workers of one process, with their measurements."""

    engine: Engine
    chunk_videos: int
    period_s: float
    """Seconds between two chunks of a worker; 0 for a closed loop."""
    stop_at: float
    samples: list[Sample] = field(default_factory=list)
    """One sample per ledger call, whether it succeeded or failed."""
    commits: int = 0
    errors: list[str] = field(default_factory=list)

    def work(self, name: str) -> None:
        """Run one worker until no video is claimable, or until ``stop_at``."""
        time.sleep(random.random() * self.period_s)
        while time.time() < self.stop_at:
            started_s = time.monotonic()
            try:
                if (chunk := self._claim(name)) is None:
                    return
                self._process(chunk)
            except Transient as error:
                self.errors.append(str(error))
            time.sleep(max(0.0, started_s + self.period_s * random.uniform(0.75, 1.25) - time.monotonic()))

    def _claim(self, name: str) -> ChunkClaim | None:
        with self._timed("claim"):
            return claim_chunk(
                self.engine, chunk_id=uuid4(), worker_id=name, flow_run_id=uuid4(), size=self.chunk_videos,
                lease_s=90, suite="local",
            )  # fmt: skip

    def _process(self, chunk: ChunkClaim) -> None:
        for part in (1, 2):
            time.sleep(self.period_s / 4)
            done = part * len(chunk.videos) // 3
            progress = Progress(chunk.videos[0].video_id, done, segments=done * SEGMENTS, segments_per_s=25.0)
            with self._timed("renew"):
                renew_chunk(self.engine, chunk, progress)
        with self._timed("heartbeat"):
            heartbeat_worker(self.engine, chunk.worker_id, instance=f"{chunk.worker_id}-1")
        self._commit(chunk)

    def _commit(self, chunk: ChunkClaim) -> None:
        """Commit a chunk. In about one of three chunks, one video has failed permanently."""
        failed = [VideoFailure(chunk.videos[0].video_id, "member ends early", transient=False)] * (
            random.random() < 1 / 3
        )
        sound = [video.video_id for video in chunk.videos[len(failed) :]]
        segments = len(sound) * SEGMENTS
        name = f"shards/{chunk.worker_id}/validation_{chunk.worker_id}_shard_{chunk.shard_number:04d}.parquet"
        verdicts = {"accept": segments - 2 * len(sound), "review": len(sound), "reject": len(sound)}
        receipt = ShardReceipt(
            name, uuid4().hex * 2, 1_400_000, segments, "local", audio_s=segments * AUDIO_S, verdicts=verdicts
        )
        with self._timed("commit"):
            commit_chunk(
                self.engine, chunk.chunk_id, shard=receipt if sound else None,
                validated=dict.fromkeys(sound, SEGMENTS), failed=failed, max_attempts=3,
            )  # fmt: skip
        self.commits += 1

    @contextmanager
    def _timed(self, what: str):
        """Record the latency of the code in the ``with`` block, also if it raises, for example after a timeout."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.samples.append((what, time.time(), time.perf_counter() - started_s))


def run_workers(url: str, names: list[str], chunk_videos: int, period_s: float, for_s: float) -> WorkerGroup:
    """Run one thread per worker, each with its own database connection, and return the measurements."""
    engine = create_engine(
        parse_database_url(url), connect_args=dict(CONNECT_ARGS), pool_size=len(names), max_overflow=0
    )
    for name in names:
        register_worker(engine, WorkerProfile(name, gpu_type="RTX 3090", config={"instance": f"{name}-1"}))
    group = WorkerGroup(engine, chunk_videos, period_s, stop_at=time.time() + for_s)
    start_all([lambda name=name: group.work(name) for name in names])
    engine.dispose()
    group.engine = None  # an engine cannot be pickled for the parent process
    return group


def start_all(jobs: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

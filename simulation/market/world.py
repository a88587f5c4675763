"""The simulated world: one vendor account, one ledger and simulated workers, which share a virtual clock."""

from dataclasses import dataclass, field

from pydantic import SecretStr
from sqlalchemy import Engine

from simulation.fake_vast.api import FakeVast
from simulation.fake_vast.cloud import ACCOUNT_KEY, Cloud
from simulation.fake_vast.failures import FailureMix
from simulation.fake_vast.transport import FakeTransport
from simulation.market.ledger import SimulatedClock, fill_queue
from simulation.market.simulated_worker import SimulatedWorkers
from validation.domain import Seconds
from validation.ledger.maintenance import sweep_stale_claims
from validation.vast.client import VastClient

STEP_S: Seconds = 120.0
"""Seconds between two steps of the workers and between two sweeps of the ledger."""
CHUNK_VIDEOS, VIDEO_SEGMENTS = 2, 4_000
"""Size of a chunk. It has as many segments as fifty real videos, in fewer rows. An RTX 3090 needs twelve minutes."""
START: Seconds = 1_800_000_000.0
"""Unix time at which every simulation starts. It is constant, so that a run depends only on its seed."""


@dataclass(frozen=True)
class VirtualClock:
    """A clock for the client that shows and advances the fake's virtual time."""

    fake: FakeVast

    def monotonic(self) -> Seconds:
        return self.fake.cloud.now

    def sleep(self, seconds: Seconds) -> None:
        self.fake.advance(seconds)


def open_client(fake: FakeVast, key: str = ACCOUNT_KEY) -> VastClient:
    """Return the vendor client of the fleet for a fake. The client uses no socket, and the fake's virtual time."""
    return VastClient(SecretStr(key), "http://fake", clock=VirtualClock(fake), transport=FakeTransport(fake))


class SharedTime(FakeVast):
    """A fake vendor that also advances the clock of the ledger and the workers."""

    def __init__(self, world: "World", cloud: Cloud, *, seed: int) -> None:
        super().__init__(cloud, seed=seed)
        self._world, self._stepped_at = world, cloud.now
        self._clock = SimulatedClock(world.ledger, cloud.now)

    def advance(self, seconds: Seconds) -> None:
        """Advance the time of the vendor, the ledger and the workers, in steps of at most ``STEP_S``."""
        while seconds > 0:
            pace = min(seconds, self._stepped_at + STEP_S - self.cloud.now)
            super().advance(pace)
            self._clock.set(self.cloud.now)
            seconds -= pace
            if self.cloud.now >= self._stepped_at + STEP_S:
                self._stepped_at = self.cloud.now
                self._world.step()


@dataclass
class World:
    """A fake vendor, a ledger with a queue of constant length, and simulated workers."""

    ledger: Engine
    seed: int = 0
    credit_usd: float = 1000.0
    offers: int = 320
    machines: int = 230
    fake: SharedTime = field(init=False)
    client: VastClient = field(init=False)
    boxes: SimulatedWorkers = field(init=False)

    def __post_init__(self) -> None:
        cloud = Cloud(seed=self.seed, now=START, credit_usd=self.credit_usd, offers=self.offers, machines=self.machines)
        self._chunks = 0
        self.workers = SimulatedWorkers(self.ledger, cloud, CHUNK_VIDEOS)
        self.fake = SharedTime(self, cloud, seed=self.seed)
        self.client = open_client(self.fake)

    @property
    def cloud(self) -> Cloud:
        return self.fake.cloud

    def play(self, mix: FailureMix) -> None:
        """Replace all failures of the vendor by those of a mix."""
        self.fake.play(mix)

    @property
    def started_at(self) -> Seconds:
        return START

    def queue(self, chunks: int) -> None:
        """Keep ``chunks`` chunks in the queue from now on: finished ones are replaced after each step."""
        self._chunks = chunks
        self._refill()

    def step(self) -> None:
        """Run the workers for ``STEP_S``, then the sweep, then refill the queue."""
        self.workers.run(STEP_S)
        sweep_stale_claims(self.ledger)
        self._refill()

    def _refill(self) -> None:
        fill_queue(self.ledger, videos=self._chunks * CHUNK_VIDEOS, segments=VIDEO_SEGMENTS)

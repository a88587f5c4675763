"""One vendor account, one ledger and the workers between them, in one virtual time."""

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
"""Interval of the workers' steps and of the ledger's sweep."""
CHUNK_VIDEOS, VIDEO_SEGMENTS = 2, 4_000
"""A chunk of as much work as fifty real videos, which an RTX 3090 does in twelve minutes, in fewer rows."""
START: Seconds = 1_800_000_000.0
"""When every simulation starts, so that the seed decides everything."""


@dataclass(frozen=True)
class VirtualClock:
    """The fake's time as a clock of the client."""

    fake: FakeVast

    def monotonic(self) -> Seconds:
        return self.fake.cloud.now

    def sleep(self, seconds: Seconds) -> None:
        self.fake.advance(seconds)


def open_client(fake: FakeVast, key: str = ACCOUNT_KEY) -> VastClient:
    """The fleet's client of a fake, without a socket and in the fake's time."""
    return VastClient(SecretStr(key), "http://fake", clock=VirtualClock(fake), transport=FakeTransport(fake))


class SharedTime(FakeVast):
    """A fake whose time is also the ledger's and the workers'."""

    def __init__(self, world: "World", cloud: Cloud, *, seed: int) -> None:
        super().__init__(cloud, seed=seed)
        self._world, self._stepped_at = world, cloud.now
        self._clock = SimulatedClock(world.ledger, cloud.now)

    def advance(self, seconds: Seconds) -> None:
        """Let time pass for vendor, ledger and workers, in steps of at most ``STEP_S``."""
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
    """A vendor, a ledger with a queue of constant length, and the workers."""

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
        """Make everything fail as this mix says."""
        self.fake.play(mix)

    @property
    def started_at(self) -> Seconds:
        return START

    def queue(self, chunks: int) -> None:
        """Keep so many chunks in the queue from now on, however many are done."""
        self._chunks = chunks
        self._refill()

    def step(self) -> None:
        """One step of the workers, the sweep and the queue."""
        self.workers.run(STEP_S)
        sweep_stale_claims(self.ledger)
        self._refill()

    def _refill(self) -> None:
        fill_queue(self.ledger, videos=self._chunks * CHUNK_VIDEOS, segments=VIDEO_SEGMENTS)

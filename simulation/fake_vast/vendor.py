"""The state of the fake vendor: the cloud, the rate limits, and the failures to inject."""

import random

from simulation.fake_vast.cloud import Cloud
from simulation.fake_vast.failures import FailureMix
from simulation.fake_vast.throttle import Throttle
from simulation.fake_vast.transport import FailingConnection
from validation.domain import Seconds


class Vendor:
    """The state that the handlers of requests read and change."""

    def __init__(self, cloud: Cloud | None = None, *, strict: bool = False, seed: int = 0) -> None:
        self.cloud = cloud or Cloud(seed=seed)
        self.throttle = Throttle(strict=strict)
        self.connection = FailingConnection(random.Random(seed + 1))  # noqa: S311 - a simulation
        self.requests: list[tuple[str, str]] = []
        """The method and path of every request so far."""
        self.mix = FailureMix()
        """The mix of the last call of ``play``. Handlers read some of its fields."""
        self._leak_rng = random.Random(seed + 2)  # noqa: S311 - a simulation

    def play(self, mix: FailureMix) -> None:
        """Replace all failures by those of a mix."""
        self.mix, self.throttle.strict, self.cloud.lifecycles = mix, mix.strict, mix.lifecycles
        self.cloud.outbids_per_hour, self.cloud.takings_per_hour = mix.outbids_per_hour, mix.takings_per_hour
        self.connection.set_all(mix.transport)

    def leaks(self) -> bool:
        """Draw whether a search returns an offer that breaks one of its bounds."""
        return self._leak_rng.random() < self.mix.leaky_share

    def advance(self, seconds: Seconds) -> None:
        self.cloud.advance(seconds)

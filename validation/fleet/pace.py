"""How often the vendor may be asked what."""

import time
from collections.abc import Mapping
from typing import Protocol

from validation.domain import Seconds

INTERVALS_S: Mapping[str, Seconds] = {
    "search": 6.0,  # 10 a minute
    "create": 4.5,
    "list": 1.0,
    "destroy": 3.0,
    "account": 1.0,
}
"""The vendor's own minimum between two requests to one endpoint, per key and address (docs, rate limits)."""

PENALTY_S: Mapping[str, Seconds] = {"create": 12.0}
"""What a request that came too early costs on top."""

MARGIN = 1.05
"""The vendor measures when requests arrive, we when they leave."""


class Clock(Protocol):
    """Time that passes, and a way to let it pass."""

    def monotonic(self) -> Seconds: ...

    def sleep(self, seconds: Seconds) -> None: ...


class WallClock:
    """The time of this machine."""

    def monotonic(self) -> Seconds:
        return time.monotonic()

    def sleep(self, seconds: Seconds) -> None:
        time.sleep(seconds)


class Pacer:
    """Keeps requests to each endpoint far enough apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at: dict[str, Seconds] = {}

    def wait(self, endpoint: str) -> None:
        """Sleep until the endpoint may be asked, and take the moment."""
        now = self._clock.monotonic()
        if (pause := self._free_at.get(endpoint, now) - now) > 0:
            self._clock.sleep(pause)
        self._free_at[endpoint] = self._clock.monotonic() + INTERVALS_S[endpoint] * MARGIN

    def back_off(self, endpoint: str, told_s: Seconds | None) -> None:
        """After a refusal for haste: wait as long as the vendor says, else the interval with its penalty."""
        pause = told_s if told_s is not None else INTERVALS_S[endpoint] + PENALTY_S.get(endpoint, 0.0)
        self._free_at[endpoint] = self._clock.monotonic() + pause * MARGIN

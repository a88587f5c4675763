"""How often the vendor may be asked what."""

import os
import select
import signal
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

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


class InterruptibleClock(WallClock):
    """The time of this machine, whose sleep ends when a signal comes: ``time.sleep`` goes on after the handler.

    Use as a context manager, in the main thread. A signal that came before the sleep ends it as well.
    """

    def sleep(self, seconds: Seconds) -> None:
        came, _, _ = select.select([self._came], [], [], seconds)
        if came:
            os.read(self._came, 4096)

    def __enter__(self) -> Self:
        self._came, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._before = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._came)
        os.close(self._told)


class RateLimiter:
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

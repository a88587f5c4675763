"""Rate limiter that keeps requests within the vendor's limits per endpoint, and its clocks."""

import os
import select
import signal
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from validation.domain import Seconds

INTERVALS_S: Mapping[str, Seconds] = {
    "search": 6.0,  # 10 per minute
    "create": 4.5,
    "list": 1.0,
    "destroy": 3.0,
    "account": 1.0,
}
"""The vendor's minimum time between two requests to one endpoint, per key and client address (vendor's docs,
rate limits)."""

PENALTY_S: Mapping[str, Seconds] = {"create": 12.0}
"""Seconds that the vendor adds to the interval after a request that came too early, per endpoint."""

MARGIN = 1.05
"""Factor on all intervals, because the vendor measures the arrival of requests, and this client their departure."""


class Clock(Protocol):
    """A monotonic clock with a sleep. Simulations use a virtual clock."""

    def monotonic(self) -> Seconds: ...

    def sleep(self, seconds: Seconds) -> None: ...


class WallClock:
    """The real monotonic clock."""

    def monotonic(self) -> Seconds:
        return time.monotonic()

    def sleep(self, seconds: Seconds) -> None:
        time.sleep(seconds)


class InterruptibleClock(WallClock):
    """A clock whose sleep ends when a signal arrives, because ``time.sleep`` continues after the signal's handler.

    Use it as a context manager in the main thread. A signal that arrived before the sleep also ends the sleep.
    """

    def sleep(self, seconds: Seconds) -> None:
        """Sleep for ``seconds``, or until a signal arrives."""
        readable, _, _ = select.select([self._read_end], [], [], seconds)
        if readable:
            os.read(self._read_end, 4096)

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._previous_fd = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._read_end)
        os.close(self._write_end)


class RateLimiter:
    """Keeps requests to each endpoint at least ``INTERVALS_S`` apart."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at: dict[str, Seconds] = {}

    def wait(self, endpoint: str) -> None:
        """Sleep until a request to the endpoint is allowed, and count the request as sent."""
        now = self._clock.monotonic()
        if (pause := self._free_at.get(endpoint, now) - now) > 0:
            self._clock.sleep(pause)
        self._free_at[endpoint] = self._clock.monotonic() + INTERVALS_S[endpoint] * MARGIN

    def back_off(self, endpoint: str, retry_after_s: Seconds | None) -> None:
        """Delay the next request by ``retry_after_s``; if it is None, by the endpoint's interval plus its penalty."""
        pause = retry_after_s if retry_after_s is not None else INTERVALS_S[endpoint] + PENALTY_S.get(endpoint, 0.0)
        self._free_at[endpoint] = self._clock.monotonic() + pause * MARGIN

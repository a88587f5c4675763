"""Measure standstills. In a standstill, no worker claims a chunk although videos wait and a worker is up."""

from dataclasses import dataclass, field

from validation.domain import Seconds

MAX_STANDSTILL_S: Seconds = 180.0
"""The longest allowed standstill. It covers the start of a worker, a late control run, and one period of that run."""


@dataclass(slots=True)
class StallDetector:
    """Finds the longest standstill from repeated observations of the fleet, in the order of time."""

    longest_s: Seconds = 0.0
    ended_at_s: Seconds = 0.0
    """The time at which the longest standstill was last observed."""
    _since_s: Seconds | None = field(default=None, init=False)
    _claims: int = field(default=-1, init=False)

    def observe(self, now_s: Seconds, *, claims: int, is_work_waiting: bool, is_worker_up: bool) -> None:
        """Record the present state. A standstill ends with a new claim, with an empty queue, or if no worker is up."""
        if claims != self._claims or not (is_work_waiting and is_worker_up):
            self._claims, self._since_s = claims, now_s if is_work_waiting and is_worker_up else None
        elif self._since_s is None:
            self._since_s = now_s
        if self._since_s is not None and now_s - self._since_s > self.longest_s:
            self.longest_s, self.ended_at_s = now_s - self._since_s, now_s

    def violations(self) -> list[str]:
        """Return a sentence if the longest standstill is longer than ``MAX_STANDSTILL_S``, else an empty list."""
        if self.longest_s <= MAX_STANDSTILL_S:
            return []
        sentence = (
            f"no chunk was claimed for {self.longest_s:.0f} s until {self.ended_at_s:.0f} s, while videos waited and a "
            f"worker was up; at most {MAX_STANDSTILL_S:.0f} s are allowed"
        )
        return [sentence]

"""Measures standstills: how long no worker claims a chunk although videos wait and a worker is up."""

from dataclasses import dataclass, field

from validation.domain import Seconds

MAX_STANDSTILL_S: Seconds = 180.0
"""The longest standstill that a run may have: a worker's start, a control run that came late, and one period."""


@dataclass(slots=True)
class StandstillWatch:
    """Told of the fleet again and again, in the order of time."""

    longest_s: Seconds = 0.0
    ended_at_s: Seconds = 0.0
    """When the longest standstill ended, or was last seen."""
    _since_s: Seconds | None = field(default=None, init=False)
    _claims: int = field(default=-1, init=False)

    def observe(self, now_s: Seconds, *, claims: int, is_work_waiting: bool, is_worker_up: bool) -> None:
        """Record what is true now. A standstill ends with a claim, an empty queue, or no worker that could claim."""
        if claims != self._claims or not (is_work_waiting and is_worker_up):
            self._claims, self._since_s = claims, now_s if is_work_waiting and is_worker_up else None
        elif self._since_s is None:
            self._since_s = now_s
        if self._since_s is not None and now_s - self._since_s > self.longest_s:
            self.longest_s, self.ended_at_s = now_s - self._since_s, now_s

    def violations(self) -> list[str]:
        """A sentence if the longest standstill is longer than a run may have."""
        if self.longest_s <= MAX_STANDSTILL_S:
            return []
        sentence = (
            f"no chunk was claimed for {self.longest_s:.0f} s until {self.ended_at_s:.0f} s, while videos waited and a "
            f"worker was up; at most {MAX_STANDSTILL_S:.0f} s are allowed"
        )
        return [sentence]

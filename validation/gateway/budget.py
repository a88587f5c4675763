"""How much each box may write through the gateway: a stolen token must not fill the disk of the Prefect server."""

import time
from collections.abc import Callable

from validation.domain import Seconds

HOURLY_BYTES = 64 << 20
"""A chunk takes 0.2 MB of the server's database, and a fast box completes thirty chunks per hour."""
MAX_MESSAGE_BYTES = 1 << 20
"""Prefect's client sends events one by one, of some kilobytes, and logs in batches of at most 1 MB."""


class BudgetSpent(Exception):
    """A box wrote more than its budget."""


class WriteBudget:
    """One budget of bytes per box, which fills up within an hour."""

    def __init__(self, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, Seconds]] = {}

    def spend(self, box: str, size: int) -> None:
        """Count ``size`` bytes of a box.

        Raises:
            BudgetSpent: the box has less left; nothing was counted.
        """
        now = self._clock()
        left, at = self._left.get(box, (float(HOURLY_BYTES), now))
        left = min(left + (now - at) * HOURLY_BYTES / 3600, float(HOURLY_BYTES))
        if size > left:
            raise BudgetSpent(f"{box} wrote {HOURLY_BYTES >> 20} MB within an hour")
        self._left[box] = left - size, now

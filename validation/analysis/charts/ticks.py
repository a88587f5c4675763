"""Positions of an axis' ticks, at round values."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import ceil, floor, log10

from validation.domain import Seconds

DAY_S = 86_400
_STEPS_S = (60, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, DAY_S, 2 * DAY_S, 7 * DAY_S)
"""Round steps of time, from a minute to a week."""


def round_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """About ``count`` round values that span ``[low, high]``: the first is at most ``low``, the last at least ``high``.

    Steps are 1, 2 or 5 times a power of ten (Heckbert, Graphics Gems, 1990).
    """
    span = high - low or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def time_ticks(start_s: Seconds, end_s: Seconds, *, max_ticks: int = 8) -> tuple[list[float], Callable[[float], str]]:
    """About ``max_ticks`` round times between two epochs at most, and a function that writes a time, in UTC."""
    step = next((s for s in _STEPS_S if (end_s - start_s) / s <= max_ticks), _STEPS_S[-1])
    ticks = [float(n * step) for n in range(ceil(start_s / step), floor(end_s / step) + 1)]
    pattern = "%d %b" if step >= DAY_S else "%a %H:%M" if end_s - start_s >= DAY_S else "%H:%M"
    return ticks, lambda at: datetime.fromtimestamp(at, UTC).strftime(pattern)

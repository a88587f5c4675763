"""Format numbers with units, and choose the ticks of an axis."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil, floor, log10

from validation.domain import Seconds

DAY_S = 86_400
_STEPS_S = (60, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, DAY_S, 2 * DAY_S, 7 * DAY_S)
"""Distances between ticks on a time axis, from a minute to a week."""


def round_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return about ``count`` round tick values. The first is at most ``low``, and the last is at least ``high``.

    The distance between ticks is 1, 2 or 5 times a power of ten (Heckbert, Graphics Gems, 1990).
    """
    span = high - low or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]


def time_ticks(start_s: Seconds, end_s: Seconds, *, max_ticks: int = 8) -> tuple[list[float], Callable[[float], str]]:
    """Return round times between two epochs, and a function that formats such a time in UTC.

    The number of times is about ``max_ticks`` at most, and larger if the interval is longer than ``max_ticks`` weeks.
    """
    step = next((s for s in _STEPS_S if (end_s - start_s) / s <= max_ticks), _STEPS_S[-1])
    ticks = [float(n * step) for n in range(ceil(start_s / step), floor(end_s / step) + 1)]
    pattern = "%d %b" if step >= DAY_S else "%a %H:%M" if end_s - start_s >= DAY_S else "%H:%M"
    return ticks, lambda at: datetime.fromtimestamp(at, UTC).strftime(pattern)


UNKNOWN = "–"
"""What is written for an unknown number."""

Number = float | Decimal | None
"""A number of a SQL view; None means unknown."""


def format_count(value: Number) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def format_short_count(value: int) -> str:
    """Format a count with at most three digits: ``950``, ``12k``, ``3.4M``."""
    for unit, name in ((1_000_000, "M"), (1000, "k")):
        if value >= 0.9995 * unit:  # what three digits round to the unit
            return f"{value / unit:.3g}{name}"
    return str(value)


def format_things(count: int, one: str, many: str) -> str:
    """Format a count with its noun, in the singular (``one``) or the plural (``many``)."""
    return f"{format_count(count)} {one if count == 1 else many}"


def format_share(value: Number) -> str:
    """Format a share between 0 and 1 as a percentage. ``0 %`` and ``100 %`` are written only for exactly 0 and 1."""
    if value is None:
        return UNKNOWN
    percent = float(value) * 100
    if 0 < percent < 0.1:  # noqa: PLR2004 - what one decimal can show
        return "<0.1 %"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return ">99.9 %"
    return f"{percent:.0f} %" if percent in {0, 100} else f"{percent:.1f} %"


def format_usd(value: Number) -> str:
    return UNKNOWN if value is None else f"${value:,.2f}"


def format_rate(value: Number) -> str:
    """Format a number with three significant digits, or without decimals from 100 on."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if abs(float(value)) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def format_hours(audio_s: Number) -> str:
    """Format a length of audio, given in seconds, in hours."""
    return UNKNOWN if audio_s is None else f"{format_rate(float(audio_s) / 3600)} h"


def format_duration(seconds: Seconds | None) -> str:
    """Format a duration in its two largest units, for example ``2 h 5 min``."""
    if seconds is None:
        return UNKNOWN
    for unit_s, name, next_s, next_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {name} {int(seconds % unit_s // next_s)} {next_name}"
    return f"{seconds:.0f} s"


def format_between(low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """Format an interval, with ``write`` for each bound. A bound that is None is unknown."""
    if low is None:
        return UNKNOWN
    return f"at least {write(low)}" if high is None else f"{write(low)} to {write(high)}"

"""Numbers as text for pages and the terminal. An unknown number is a dash, never a zero.

humanize is not used: it has no text for an unknown number, and rounds 99.96 % to 100 %.
"""

from collections.abc import Callable
from decimal import Decimal

from validation.domain import Seconds

UNKNOWN = "–"

Number = float | Decimal | None
"""As SQL views return them; None is unknown."""


def format_count(value: Number) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def format_things(count: int, one: str, many: str) -> str:
    """A count with its noun."""
    return f"{format_count(count)} {one if count == 1 else many}"


def format_share(value: Number) -> str:
    """A share of 1 as a percentage; only exactly 0 is 0 %, only exactly 1 is 100 %."""
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
    """Three significant digits."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if abs(float(value)) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def format_hours(audio_s: Number) -> str:
    """Hours of audio from its seconds."""
    return UNKNOWN if audio_s is None else f"{format_rate(float(audio_s) / 3600)} h"


def format_duration(seconds: Seconds | None) -> str:
    """A duration in its two largest units."""
    if seconds is None:
        return UNKNOWN
    for unit_s, name, next_s, next_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {name} {int(seconds % unit_s // next_s)} {next_name}"
    return f"{seconds:.0f} s"


def format_between(low: float | None, high: float | None, write: Callable[[float | None], str]) -> str:
    """An interval whose upper end may be unknown."""
    if low is None:
        return UNKNOWN
    return f"at least {write(low)}" if high is None else f"{write(low)} to {write(high)}"

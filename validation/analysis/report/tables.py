"""Tables and bars of the page."""

from collections.abc import Iterable, Sequence
from html import escape

from validation.analysis.charts.numbers import format_duration, format_rate
from validation.analysis.charts.svg import tag


def table(header: Sequence[str], rows: Iterable[Iterable[str]], *, numbers_from: int) -> str:
    """Write a table; cells are markup already, columns from ``numbers_from`` on are numbers."""
    kinds = [None if place < numbers_from else "n" for place in range(len(header))]
    head = tag(
        "tr", *(tag("th", escape(name) or "&nbsp;", class_=kind) for name, kind in zip(header, kinds, strict=True))
    )
    body = [tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True))) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))


def draw_bar(parts: Iterable[tuple[str, int]], whole: int) -> str:
    """A bar whose parts are shares of the whole, each in its colour."""
    drawn = [tag("i", "", class_=colour, style=f"width:{100 * part / whole:.2f}%") for colour, part in parts if part]
    return tag("div", *drawn or [""], class_="bar")


def format_hour_count(hours: float) -> str:
    """Hours as people say them; what is less than one in minutes and seconds."""
    return format_duration(hours * 3600) if hours < 1 else f"{format_rate(hours)} h"

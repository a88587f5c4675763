"""Draw the distribution of a signal: a histogram, the limits of rules, and a box plot of quantiles per group."""

from collections.abc import Sequence
from dataclasses import dataclass

from validation.analysis.charts.numbers import format_rate, format_short_count, round_ticks
from validation.analysis.charts.svg import embedded, label, path, tag

WIDTH, BARS_HEIGHT, STRIP_HEIGHT = 360.0, 92.0, 17.0
LEFT, RIGHT, TOP, AXIS = 44.0, 14.0, 6.0, 20.0


@dataclass(frozen=True, slots=True)
class QuantileStrip:
    """The 5th, 25th, 50th, 75th and 95th percentile of one group, drawn as a box plot."""

    name: str
    quantiles: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """The data of one chart. ``counts`` holds pairs of a colour and the counts in equal bins from ``low`` to ``high``.

    The bars of the colours are stacked.
    """

    title: str
    low: float
    high: float
    counts: Sequence[tuple[str, Sequence[int]]]
    limits: Sequence[tuple[float, str]] = ()
    """Values with colours, drawn as vertical lines."""
    strips: Sequence[QuantileStrip] = ()

    def x_of(self, value: float) -> float:
        """Return the x coordinate of a value. A value outside the axis is moved to its nearest end."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def draw_histogram(chart: Distribution) -> str:
    """Draw the chart as an SVG element, for a page that includes ``svg.SHAPES_CSS``."""
    floor = TOP + BARS_HEIGHT
    strips = [part for n, strip in enumerate(chart.strips) for part in _draw_strip(chart, strip, _strip_y(n))]
    bottom = _strip_y(len(chart.strips)) + STRIP_HEIGHT / 2 if chart.strips else floor + AXIS
    marks = [
        path([(x, TOP), (x, bottom - 4)], class_=f"mark stroke-{colour}")
        for x, colour in ((chart.x_of(value), colour) for value, colour in chart.limits)
    ]
    axis = [path([(LEFT, y), (WIDTH - RIGHT, y)], class_="grid") for y in (TOP, floor)]
    axis += [*_draw_ticks(chart, floor + 14), *_draw_scale(chart, floor)]
    return embedded(WIDTH, bottom, *axis, *_draw_bars(chart, floor), *strips, *marks, title=chart.title)


def _strip_y(number: int) -> float:
    """Return the y coordinate of the middle of the strip with this index."""
    return TOP + BARS_HEIGHT + AXIS + (number + 0.6) * STRIP_HEIGHT


def _draw_bars(chart: Distribution, floor: float) -> list[str]:
    columns, highest = _stack(chart)
    width = (WIDTH - LEFT - RIGHT) / max(len(columns), 1)
    bars = []
    for number, column in enumerate(columns):
        y = floor
        for (colour, _), count in zip(chart.counts, column, strict=True):
            height = count / highest * BARS_HEIGHT
            y -= height
            if count:
                x = LEFT + number * width
                bars.append(tag("rect", x=x, y=y, width=width - 0.8, height=height, class_=f"fill-{colour}"))
    return bars


def _stack(chart: Distribution) -> tuple[list[tuple[int, ...]], int]:
    """Return the counts of each bin by colour, and the largest count of a bin, at least 1."""
    columns = list(zip(*(counts for _, counts in chart.counts), strict=True))
    return columns, max(map(sum, columns), default=0) or 1


def _draw_scale(chart: Distribution, floor: float) -> list[str]:
    """Label the vertical axis with 0 and the largest count of a bin."""
    written = format_short_count(_stack(chart)[1])
    return [label(text, LEFT - 6, y, text_anchor="end") for text, y in ((written, TOP + 8), ("0", floor))]


def _draw_ticks(chart: Distribution, y: float) -> list[str]:
    ticks = [value for value in round_ticks(chart.low, chart.high) if chart.low <= value <= chart.high]
    return [label(format_rate(value), chart.x_of(value), y, text_anchor="middle") for value in ticks]


def _draw_strip(chart: Distribution, strip: QuantileStrip, y: float) -> list[str]:
    """Draw the quantiles of one group: a line from the 5th to the 95th percentile, a box and a median."""
    lowest, low, middle, high, highest = map(chart.x_of, strip.quantiles)
    return [
        label(strip.name, LEFT - 8, y + 4, text_anchor="end"),
        path([(lowest, y), (highest, y)], class_="stroke-muted", stroke_width=1, opacity=0.6),
        tag("rect", x=low, y=y - 4, width=max(high - low, 1.5), height=8, rx=2, class_="fill-blue", opacity=0.45),
        path([(middle, y - 5), (middle, y + 5)], class_="stroke-blue", stroke_width=2.5),
    ]

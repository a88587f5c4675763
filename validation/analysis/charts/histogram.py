"""How values are spread: bars over a line, limits that rules draw, and a strip for each group."""

from collections.abc import Sequence
from dataclasses import dataclass

from validation.analysis.charts.numbers import format_rate
from validation.analysis.charts.svg import label, path, picture, tag
from validation.analysis.charts.ticks import round_ticks

WIDTH, BARS_HEIGHT, STRIP_HEIGHT = 360.0, 92.0, 17.0
LEFT, RIGHT, TOP, AXIS = 44.0, 14.0, 6.0, 20.0


@dataclass(frozen=True, slots=True)
class QuantileStrip:
    """Where one group's values lie: five quantiles, from the 5th to the 95th percentile."""

    name: str
    quantiles: tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Distribution:
    """What to draw: for each colour the counts in equal bins from ``low`` to ``high``, one upon the other."""

    title: str
    low: float
    high: float
    counts: Sequence[tuple[str, Sequence[int]]]
    limits: Sequence[tuple[float, str]] = ()
    """Values with colours, drawn as lines."""
    strips: Sequence[QuantileStrip] = ()

    def across(self, value: float) -> float:
        """Where a value stands; beyond the bounds, at them."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def draw_histogram(chart: Distribution) -> str:
    """Draw it for a page that brings the style."""
    floor = TOP + BARS_HEIGHT
    strips = [part for n, strip in enumerate(chart.strips) for part in _draw_strip(chart, strip, _middle(n))]
    bottom = _middle(len(chart.strips)) + STRIP_HEIGHT / 2 if chart.strips else floor + AXIS
    marks = [
        path([(x, TOP), (x, bottom - 4)], class_=f"mark stroke-{colour}")
        for x, colour in ((chart.across(value), colour) for value, colour in chart.limits)
    ]
    axis = [path([(LEFT, floor), (WIDTH - RIGHT, floor)], class_="grid"), *_draw_ticks(chart, floor + 14)]
    return picture(WIDTH, bottom, *axis, *_draw_bars(chart, floor), *strips, *marks, title=chart.title)


def _middle(number: int) -> float:
    """The middle of a strip."""
    return TOP + BARS_HEIGHT + AXIS + (number + 0.6) * STRIP_HEIGHT


def _draw_bars(chart: Distribution, floor: float) -> list[str]:
    columns = list(zip(*(counts for _, counts in chart.counts), strict=True))
    highest = max(map(sum, columns), default=0) or 1
    width = (WIDTH - LEFT - RIGHT) / max(len(columns), 1)
    bars = []
    for place, column in enumerate(columns):
        y = floor
        for (colour, _), count in zip(chart.counts, column, strict=True):
            height = count / highest * BARS_HEIGHT
            y -= height
            if count:
                x = LEFT + place * width
                bars.append(tag("rect", x=x, y=y, width=width - 0.8, height=height, class_=f"fill-{colour}"))
    return bars


def _draw_ticks(chart: Distribution, y: float) -> list[str]:
    ticks = [value for value in round_ticks(chart.low, chart.high) if chart.low <= value <= chart.high]
    return [label(format_rate(value), chart.across(value), y, text_anchor="middle") for value in ticks]


def _draw_strip(chart: Distribution, strip: QuantileStrip, y: float) -> list[str]:
    lowest, low, middle, high, highest = map(chart.across, strip.quantiles)
    return [
        label(strip.name, LEFT - 8, y + 4, text_anchor="end"),
        path([(lowest, y), (highest, y)], class_="stroke-muted", stroke_width=1, opacity=0.6),
        tag("rect", x=low, y=y - 4, width=max(high - low, 1.5), height=8, rx=2, class_="fill-blue", opacity=0.45),
        path([(middle, y - 5), (middle, y + 5)], class_="stroke-blue", stroke_width=2.5),
    ]

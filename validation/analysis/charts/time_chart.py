"""Quantities over time: lines from a common floor, or shares that add up."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from validation.analysis.charts.numbers import format_count
from validation.analysis.charts.svg import Point, label, path, standalone, tag
from validation.analysis.charts.ticks import round_ticks, time_ticks
from validation.domain import Seconds

WIDTH, HEIGHT = 760.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 62.0, 32.0


@dataclass(frozen=True, slots=True)
class Series:
    """One line, by epoch seconds, in a colour of the palette."""

    name: str
    colour: str
    points: Sequence[tuple[Seconds, float]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where a line is expected to go: to ``value`` at a time that is known with an uncertainty.

    ``most_s`` is None where the interval is open.
    """

    value: float
    expected_s: Seconds
    min_padded_s: Seconds
    most_s: Seconds | None


@dataclass(frozen=True, slots=True)
class TimeChart:
    """What to draw. With ``stacked`` each line lies on the one before."""

    title: str
    note: str
    """What it comes to, in words; stands beside the title."""
    series: Sequence[Series]
    say: Callable[[float], str] = format_count
    stacked: bool = False
    outlook: Forecast | None = None
    ceiling: float | None = None
    """The top of the axis, where it is known beforehand."""


@dataclass(frozen=True, slots=True)
class Axes:
    """Where values land on the picture."""

    start_s: Seconds
    end_s: Seconds
    top: float

    def place(self, at_s: Seconds, value: float) -> Point:
        across = (at_s - self.start_s) / (self.end_s - self.start_s or 1.0)
        up = value / self.top
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def draw_time_chart(chart: TimeChart) -> str:
    """Draw a chart as a standalone SVG. One without any point says that there is nothing yet."""
    title = [label(chart.title, LEFT - 44, 28, class_="title"), *_legend(chart)]
    if not any(series.points for series in chart.series):
        empty = label("nothing yet", WIDTH / 2, HEIGHT / 2, text_anchor="middle")
        return standalone(WIDTH, HEIGHT, *title, empty, title=chart.title)
    layers = list(_stack(chart.series)) if chart.stacked else [(series, None) for series in chart.series]
    ticks = round_ticks(0.0, chart.ceiling or max(value for series, _ in layers for _, value in series.points))
    axes = Axes(*_span(chart), top=ticks[-1])
    drawn = [part for series, floor in layers for part in _draw_series(series, floor, axes, stacked=chart.stacked)]
    return standalone(
        WIDTH, HEIGHT, *title, *_grid(axes, ticks, chart.say), *drawn, *_draw_outlook(chart, axes), title=chart.title
    )


def _span(chart: TimeChart) -> tuple[Seconds, Seconds]:
    times = [at for series in chart.series for at, _ in series.points]
    if chart.outlook:
        times.append(chart.outlook.most_s or chart.outlook.expected_s)
    return min(times), max(times)


def _stack(series: Iterable[Series]) -> Iterable[tuple[Series, Sequence[tuple[Seconds, float]]]]:
    """Each series raised by those before it, with the line that it lies on."""
    floor: dict[Seconds, float] = {}
    for one in series:
        lower = [(at, floor.get(at, 0.0)) for at, _ in one.points]
        raised = [(at, below + value) for (at, below), (_, value) in zip(lower, one.points, strict=True)]
        floor = dict(raised)
        yield Series(one.name, one.colour, raised), lower


def _draw_series(
    series: Series, floor: Sequence[tuple[Seconds, float]] | None, axes: Axes, *, stacked: bool
) -> list[str]:
    upper = [axes.place(*point) for point in series.points]
    lower = [axes.place(*point) for point in floor or [(at, 0.0) for at, _ in series.points]]
    area = path([*upper, *reversed(lower)], class_=f"fill-{series.colour}", fill_opacity=0.85 if stacked else 0.13)
    if stacked:
        return [area]
    x, y = upper[-1]
    dot = tag("circle", cx=x, cy=y, r=3.5, class_=f"fill-{series.colour}")
    return [area, path(upper, class_=f"line stroke-{series.colour}"), dot]


def _draw_outlook(chart: TimeChart, axes: Axes) -> list[str]:
    """The way from the last point to where the line is expected, and the fan of its uncertainty."""
    if chart.outlook is None:
        return []
    outlook, series = chart.outlook, chart.series[0]
    here = axes.place(*series.points[-1])
    expected = axes.place(outlook.expected_s, outlook.value)
    latest = axes.place(outlook.most_s or axes.end_s, outlook.value)
    fan = path([here, axes.place(outlook.min_padded_s, outlook.value), latest], class_=f"band fill-{series.colour}")
    return [fan, path([here, expected], class_=f"guess stroke-{series.colour}")]


def _grid(axes: Axes, ticks: Sequence[float], say: Callable[[float], str]) -> list[str]:
    across = [axes.place(axes.start_s, value) for value in ticks]
    parts = [path([(LEFT, y), (WIDTH - RIGHT, y)], class_="grid") for _, y in across]
    parts += [
        label(say(value), LEFT - 8, y + 4, text_anchor="end") for value, (_, y) in zip(ticks, across, strict=True)
    ]
    times, write = time_ticks(axes.start_s, axes.end_s)
    parts += [label(write(at), axes.place(at, 0)[0], HEIGHT - 10, text_anchor="middle") for at in times]
    return [*parts, label("UTC", LEFT - 8, HEIGHT - 10, text_anchor="end")]


def _legend(chart: TimeChart) -> list[str]:
    """The note at the right; under the title the names, where there is more than one line to tell apart."""
    parts = [label(chart.note, WIDTH - 20, 28, text_anchor="end")]
    x = LEFT - 44
    for series in chart.series if len(chart.series) > 1 else ():
        parts += [tag("rect", x=x, y=38.0, width=10, height=10, rx=2, class_=f"fill-{series.colour}")]
        parts += [label(series.name, x + 15, 47)]
        x += 28 + 7 * len(series.name)
    return parts

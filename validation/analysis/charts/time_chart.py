"""Draw charts of quantities over time, as lines or as stacked areas."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from validation.analysis.charts.numbers import format_count, round_ticks, time_ticks
from validation.analysis.charts.svg import Point, label, path, standalone, tag
from validation.domain import Seconds

WIDTH, HEIGHT = 760.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 20.0, 62.0, 32.0
LABEL_WIDTH = 58.0
"""Width of the widest label of a time, `Mon 12:00`."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart. ``points`` are pairs of epoch seconds and a value; ``colour`` is a colour of the palette."""

    name: str
    colour: str
    points: Sequence[tuple[Seconds, float]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """The expected end of a line: the time at which the line reaches ``value``, with bounds, in epoch seconds.

    ``latest_s`` is None if the upper bound is unknown.
    """

    value: float
    expected_s: Seconds
    earliest_s: Seconds
    latest_s: Seconds | None


@dataclass(frozen=True, slots=True)
class TimeChart:
    """The data of one chart. If ``stacked``, each series is drawn on top of the previous one."""

    title: str
    note: str
    """The current value in words, shown beside the title."""
    series: Sequence[Series]
    format_value: Callable[[float], str] = format_count
    stacked: bool = False
    forecast: Forecast | None = None
    ceiling: float | None = None
    """The highest value of the vertical axis; None to choose it from the data."""


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a chart, from ``start_s`` to ``end_s`` (epoch seconds) and from 0 to the value ``top``."""

    start_s: Seconds
    end_s: Seconds
    top: float

    def point(self, at_s: Seconds, value: float) -> Point:
        """Return the coordinates of a value at a time."""
        across = (at_s - self.start_s) / (self.end_s - self.start_s or 1.0)
        up = value / self.top
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def draw_time_chart(chart: TimeChart) -> str:
    """Draw a chart as a standalone SVG. A chart without a point shows the text "nothing yet"."""
    title = [label(chart.title, LEFT - 44, 28, class_="title"), *_legend(chart)]
    if not any(series.points for series in chart.series):
        empty = label("nothing yet", WIDTH / 2, HEIGHT / 2, text_anchor="middle")
        return standalone(WIDTH, HEIGHT, *title, empty, title=chart.title)
    layers = list(_stack(chart.series)) if chart.stacked else [(series, None) for series in chart.series]
    ticks = round_ticks(0.0, chart.ceiling or max(value for series, _ in layers for _, value in series.points))
    axes = Axes(*_span(chart), top=ticks[-1])
    drawn = [part for series, floor in layers for part in _draw_series(series, floor, axes, stacked=chart.stacked)]
    return standalone(
        WIDTH,
        HEIGHT,
        *title,
        *_grid(axes, ticks, chart.format_value),
        *drawn,
        *_draw_forecast(chart, axes),
        title=chart.title,
    )


def _span(chart: TimeChart) -> tuple[Seconds, Seconds]:
    """Return the first and the last time that the chart shows, in epoch seconds. The forecast is included."""
    times = [at for series in chart.series for at, _ in series.points]
    if chart.forecast:
        times.append(chart.forecast.latest_s or chart.forecast.expected_s)
    return min(times), max(times)


def _stack(series: Iterable[Series]) -> Iterable[tuple[Series, Sequence[tuple[Seconds, float]]]]:
    """Yield each series with the values of all previous series added, and the points of its area's lower edge."""
    floor: dict[Seconds, float] = {}
    for one in series:
        lower = [(at, floor.get(at, 0.0)) for at, _ in one.points]
        raised = [(at, below + value) for (at, below), (_, value) in zip(lower, one.points, strict=True)]
        floor = dict(raised)
        yield Series(one.name, one.colour, raised), lower


def _draw_series(
    series: Series, floor: Sequence[tuple[Seconds, float]] | None, axes: Axes, *, stacked: bool
) -> list[str]:
    """Draw the area of a series above ``floor``, or above 0. If it is not stacked, it has a line and a final dot."""
    upper = [axes.point(*point) for point in series.points]
    lower = [axes.point(*point) for point in floor or [(at, 0.0) for at, _ in series.points]]
    area = path([*upper, *reversed(lower)], class_=f"fill-{series.colour}", fill_opacity=0.85 if stacked else 0.13)
    if stacked:
        return [area]
    x, y = upper[-1]
    dot = tag("circle", cx=x, cy=y, r=3.5, class_=f"fill-{series.colour}")
    return [area, path(upper, class_=f"line stroke-{series.colour}"), dot]


def _draw_forecast(chart: TimeChart, axes: Axes) -> list[str]:
    """Draw a line from the last point to the expected end, and a triangle between the earliest and latest end."""
    if chart.forecast is None:
        return []
    forecast, series = chart.forecast, chart.series[0]
    here = axes.point(*series.points[-1])
    expected = axes.point(forecast.expected_s, forecast.value)
    latest = axes.point(forecast.latest_s or axes.end_s, forecast.value)
    fan = path([here, axes.point(forecast.earliest_s, forecast.value), latest], class_=f"band fill-{series.colour}")
    return [fan, path([here, expected], class_=f"forecast stroke-{series.colour}")]


def _grid(axes: Axes, ticks: Sequence[float], format_value: Callable[[float], str]) -> list[str]:
    """Draw the horizontal lines of the value ticks, and the labels of both axes."""
    across = [axes.point(axes.start_s, value) for value in ticks]
    parts = [path([(LEFT, y), (WIDTH - RIGHT, y)], class_="grid") for _, y in across]
    parts += [
        label(format_value(value), LEFT - 8, y + 4, text_anchor="end")
        for value, (_, y) in zip(ticks, across, strict=True)
    ]
    times, write = time_ticks(axes.start_s, axes.end_s)
    for at in times:
        x = axes.point(at, 0)[0]
        is_last = x > WIDTH - RIGHT - LABEL_WIDTH / 2  # centred, half of the label would be outside of the chart
        parts.append(label(write(at), x, HEIGHT - 10, text_anchor="end" if is_last else "middle"))
    return [*parts, label("UTC", 4.0, HEIGHT - 10)]  # at the left edge, beside the label of the first tick


def _legend(chart: TimeChart) -> list[str]:
    """Draw the note at the right, and below the title the names of the series if the chart has more than one."""
    parts = [label(chart.note, WIDTH - 20, 28, text_anchor="end")]
    x = LEFT - 44
    for series in chart.series if len(chart.series) > 1 else ():
        parts += [tag("rect", x=x, y=38.0, width=10, height=10, rx=2, class_=f"fill-{series.colour}")]
        parts += [label(series.name, x + 15, 47)]
        x += 28 + 7 * len(series.name)
    return parts

"""Draw the charts of the fleet's history: throughput, queue, verdicts and cost."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from validation.analysis.charts.numbers import (
    format_between,
    format_count,
    format_duration,
    format_hours,
    format_rate,
    format_share,
    format_things,
    format_usd,
)
from validation.analysis.charts.time_chart import Forecast, Series, TimeChart, draw_time_chart
from validation.analysis.status.fleet_status import FleetStatus, Row

MAX_FORECAST_RATIO = 6
"""A forecast is not drawn if its latest end is further away than this many times the length of the history."""

VERDICTS = (("accepted", "accept"), ("review", "review"), ("rejected", "reject"))
"""Columns of the history that count segments by verdict, with their colours."""


def draw_plots(status: FleetStatus) -> dict[str, str]:
    """Draw the charts as standalone SVG, by name. The chart of the cost is left out if the cost is unknown."""
    charts = {"throughput": _throughput_chart, "queue": _queue_chart, "verdicts": _verdicts_chart}
    if status.cost["spent_usd"] is not None:
        charts["cost"] = _cost_chart
    return {name: draw_time_chart(chart(status)) for name, chart in charts.items()}


def _throughput_chart(status: FleetStatus) -> TimeChart:
    rate = format_rate(status.eta["segments_per_s"])
    workers = format_things(status.fleet["workers_online"], "worker", "workers")
    return TimeChart(
        title="Segments per second, committed",
        note=f"{rate} /s in the last hour, {workers} online",
        series=[Series("segments", "blue", _points(status.history, _segment_rate))],
        format_value=format_rate,
    )


def _queue_chart(status: FleetStatus) -> TimeChart:
    eta = status.eta
    interval = format_between(eta["seconds_left_min"], eta["seconds_left_max"], format_duration)
    left = status.seconds_left
    ends = "no worker online" if left is None else f"empty in {format_duration(left)} ({interval})"
    return TimeChart(
        title="Videos left",
        note=f"{format_count(eta['videos_left'])} left, {ends}",
        series=[Series("left", "blue", _points(status.history, lambda row: float(row["videos_left"])))],
        forecast=_forecast(status),
    )


def _verdicts_chart(status: FleetStatus) -> TimeChart:
    fleet = status.fleet
    counted = [row for row in status.history if row["accepted"] is not None]
    audio = format_hours(fleet["audio_s"])
    return TimeChart(
        title="Verdicts, share of segments",
        note=f"{format_share(_share(fleet, 'accepted'))} accepted of {audio} of audio",
        series=[Series(name, colour, _points(counted, _share_of(name))) for name, colour in VERDICTS],
        format_value=lambda share: f"{share:.0%}",
        stacked=True,
        ceiling=1.0,
    )


def _cost_chart(status: FleetStatus) -> TimeChart:
    spent = list(accumulate(float(row["usd"]) for row in status.history))
    before = max(0.0, float(status.cost["spent_usd"]) - spent[-1]) if spent else 0.0
    points = [(_end_s(row), before + usd) for row, usd in zip(status.history, spent, strict=True)]
    return TimeChart(
        title="Dollars spent",
        note=f"{format_usd(status.cost['spent_usd'])}, now {format_usd(status.cost['usd_per_hour'])} per hour",
        series=[Series("spent", "review", points)],
        format_value=lambda usd: format_usd(usd).removesuffix(".00"),
    )


def _points(history: Sequence[Row], value: Callable[[Row], float]) -> list[tuple[float, float]]:
    """Return pairs of a time and a value, one per step of the history, at the end of the step.

    Steps shorter than half of the longest step are left out because their rates are noisy.
    """
    whole = max((row["duration_s"] for row in history), default=0.0)
    return [(_end_s(row), value(row)) for row in history if row["duration_s"] >= whole / 2]


def _end_s(row: Row) -> float:
    """Return the end of a step of the history, in epoch seconds."""
    return float(row["starts_at"].timestamp() + row["duration_s"])


def _segment_rate(row: Row) -> float:
    return float(row["segments"]) / max(float(row["duration_s"]), 1.0)


def _share_of(name: str) -> Callable[[Row], float]:
    """Return a function that gives the share of one verdict in a step of the history, and 0 without segments."""
    return lambda row: _share(row, name) or 0.0


def _share(row: Row, name: str) -> float | None:
    """Return the share of the counted segments with one verdict; None if no segment was counted."""
    counted = sum(row[column] or 0 for column, _ in VERDICTS)
    return row[name] / counted if counted else None


def _forecast(status: FleetStatus) -> Forecast | None:
    """Return when the queue is expected to be empty; None if it is empty, unknown, or too far away to be drawn."""
    eta, history = status.eta, status.history
    if not history or not status.seconds_left:
        return None
    now_s, start_s = _end_s(history[-1]), history[0]["starts_at"].timestamp()
    latest = eta["seconds_left_max"]
    if (latest or status.seconds_left) > MAX_FORECAST_RATIO * (now_s - start_s):
        return None
    earliest = eta["seconds_left_min"] or status.seconds_left
    return Forecast(0.0, now_s + status.seconds_left, now_s + earliest, now_s + latest if latest else None)

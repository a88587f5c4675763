"""The fleet's history as pictures."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from validation.analysis.charts.numbers import (
    format_between,
    format_count,
    format_duration,
    format_hours,
    format_rate,
    format_share,
    format_usd,
)
from validation.analysis.charts.time_chart import Forecast, Series, TimeChart, draw_time_chart
from validation.analysis.status.fleet_status import FleetStatus, Row

FAR = 6
"""An end is not drawn that lies more than so many times as far ahead as the history reaches back."""

VERDICTS = (("accepted", "accept"), ("review", "review"), ("rejected", "reject"))
"""Columns of the history with their colours."""


def draw_plots(standing: FleetStatus) -> dict[str, str]:
    """Draw what there is to draw, by name, as standalone SVG."""
    charts = {"throughput": _throughput, "queue": _queue, "verdicts": _verdicts}
    if standing.cost["spent_usd"] is not None:
        charts["cost"] = _cost
    return {name: draw_time_chart(chart(standing)) for name, chart in charts.items()}


def _throughput(standing: FleetStatus) -> TimeChart:
    rate = standing.fleet["segments_per_s"]
    return TimeChart(
        title="Segments a second, committed",
        note=f"now {format_rate(rate)} /s on {format_count(standing.fleet['workers_online'])} workers",
        series=[Series("segments", "blue", _points(standing.history, _segment_rate))],
        say=format_rate,
    )


def _queue(standing: FleetStatus) -> TimeChart:
    eta = standing.eta
    ends = format_between(eta["seconds_left_min"], eta["seconds_left_max"], format_duration)
    return TimeChart(
        title="Videos left",
        note=f"{format_count(eta['videos_left'])} left, empty in {format_duration(eta['seconds_left'])} ({ends})",
        series=[Series("left", "blue", _points(standing.history, lambda row: float(row["videos_left"])))],
        outlook=_outlook(standing),
    )


def _verdicts(standing: FleetStatus) -> TimeChart:
    fleet = standing.fleet
    judged = [row for row in standing.history if row["accepted"] is not None]
    heard = format_hours(fleet["audio_s"])
    return TimeChart(
        title="Verdicts, share of segments",
        note=f"{format_share(_share(fleet, 'accepted'))} accepted of {heard} of audio",
        series=[Series(name, colour, _points(judged, _share_of(name))) for name, colour in VERDICTS],
        say=lambda share: f"{share:.0%}",
        stacked=True,
        ceiling=1.0,
    )


def _cost(standing: FleetStatus) -> TimeChart:
    spent = list(accumulate(float(row["usd"]) for row in standing.history))
    before = max(0.0, float(standing.cost["spent_usd"]) - spent[-1]) if spent else 0.0
    points = [(_end_s(row), before + usd) for row, usd in zip(standing.history, spent, strict=True)]
    return TimeChart(
        title="Dollars spent",
        note=f"{format_usd(standing.cost['spent_usd'])}, now {format_usd(standing.cost['usd_per_hour'])} an hour",
        series=[Series("spent", "review", points)],
        say=lambda usd: format_usd(usd).removesuffix(".00"),
    )


def _points(history: Sequence[Row], value: Callable[[Row], float]) -> list[tuple[float, float]]:
    """A value a step, at the step's end. A step of which there was less than half would draw noise."""
    whole = max((row["duration_s"] for row in history), default=0.0)
    return [(_end_s(row), value(row)) for row in history if row["duration_s"] >= whole / 2]


def _end_s(row: Row) -> float:
    return float(row["starts_at"].timestamp() + row["duration_s"])


def _segment_rate(row: Row) -> float:
    return float(row["segments"]) / max(float(row["duration_s"]), 1.0)


def _share_of(name: str) -> Callable[[Row], float]:
    return lambda row: _share(row, name) or 0.0


def _share(row: Row, name: str) -> float | None:
    """Share of the counted segments with one verdict; None where none was counted."""
    counted = sum(row[column] or 0 for column, _ in VERDICTS)
    return row[name] / counted if counted else None


def _outlook(standing: FleetStatus) -> Forecast | None:
    eta, history = standing.eta, standing.history
    if not history or not eta["seconds_left"]:
        return None
    now_s, began_s = _end_s(history[-1]), history[0]["starts_at"].timestamp()
    latest = eta["seconds_left_max"]
    if (latest or eta["seconds_left"]) > FAR * (now_s - began_s):
        return None
    least = eta["seconds_left_min"] or eta["seconds_left"]
    return Forecast(0.0, now_s + eta["seconds_left"], now_s + least, now_s + latest if latest else None)

"""Draw Plotly figures as plain dictionaries for `dcc.Graph`."""

from collections.abc import Mapping, Sequence
from time import monotonic_ns
from typing import Any

from validation.analysis.charts.svg import FONT, LIGHT
from validation.analysis.explore.audio import compute_envelope, measure_spectrogram
from validation.analysis.explore.database import BINS
from validation.analysis.explore.queries import Histogram, LanguageHours
from validation.analysis.explore.word_times import WordTime
from validation.domain import SAMPLE_RATE, Seconds, Waveform

Figure = Mapping[str, Any]
_PALE = "#cfd6df"
_COLOURS = {"accept": LIGHT["accept"], "review": LIGHT["review"], "reject": LIGHT["reject"]}
CONFIG: Any = {"displayModeBar": False, "doubleClick": "reset"}
"""Plotly's options of all figures."""


def draw_histogram(found: Histogram, brushed: tuple[float, float] | None, limits: Sequence[float]) -> Figure:
    """Draw all segments in grey, filtered segments in blue, the brushed range shaded, and rule limits as lines."""
    width = found.column.bin_width
    centres = [found.column.low + width * (place + 0.5) for place in range(BINS)]
    layout = _layout(found.column.name, height=150)
    layout |= {"barmode": "overlay", "bargap": 0, "dragmode": "zoom", "uirevision": monotonic_ns()}
    layout["xaxis"] |= {"range": [found.column.low, found.column.high]}
    layout["yaxis"] |= {"fixedrange": True, "type": "log" if _is_steep(found.of_all) else "linear"}
    layout["shapes"] = [_limit_line(limit) for limit in limits if found.column.low <= limit <= found.column.high] + (
        [_brush_area(*brushed)] if brushed else []
    )
    return {
        "data": [
            {"type": "bar", "x": centres, "y": found.of_all, "width": width, "marker": {"color": _PALE},
             "hoverinfo": "skip"},
            {"type": "bar", "x": centres, "y": found.counts, "width": width, "marker": {"color": LIGHT["blue"]},
             "hovertemplate": "%{x:.3g}: %{y:,}<extra></extra>"},
        ],
        "layout": layout,
    }  # fmt: skip


def draw_counts(name: str, counts: Sequence[tuple[str, int]], chosen: Sequence[str]) -> Figure:
    """Draw the number of segments per value as horizontal bars. If values are chosen, all other bars are pale."""
    shown = list(reversed(counts))
    colours = [_COLOURS.get(value, LIGHT["blue"]) if not chosen or value in chosen else _PALE for value, _ in shown]
    layout = _layout(name, height=max(110, 44 + 17 * len(shown)))
    layout["xaxis"] |= {"fixedrange": True, "tickformat": "~s"}
    layout["yaxis"] |= {"fixedrange": True, "type": "category", "automargin": True, "dtick": 1}
    return {
        "data": [
            {"type": "bar", "orientation": "h", "y": [value for value, _ in shown], "x": [count for _, count in shown],
             "marker": {"color": colours}, "hovertemplate": "%{y}: %{x:,}<extra></extra>"},
        ],
        "layout": layout,
    }  # fmt: skip


def draw_hours(hours: Sequence[LanguageHours]) -> Figure:
    """Draw accepted and other hours per language as stacked bars. A mark shows the accepted hours of other rules."""
    shown = list(reversed(hours))
    names = [row.lang for row in shown]
    layout = _layout("hours by language", height=90 + 24 * len(shown))
    layout |= {"barmode": "stack", "showlegend": True, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"}}
    layout["margin"] = {"l": 40, "r": 10, "t": 60, "b": 34}
    layout["yaxis"] |= {"type": "category", "automargin": True, "dtick": 1}
    layout["xaxis"] |= {"title": {"text": "hours"}}
    return {
        "data": [
            {"type": "bar", "orientation": "h", "name": "kept", "y": names, "x": [row.kept for row in shown],
             "marker": {"color": LIGHT["accept"]}, "hovertemplate": "%{x:,.2f} h<extra>kept</extra>"},
            {"type": "bar", "orientation": "h", "name": "not kept", "y": names,
             "x": [row.hours - row.kept for row in shown], "marker": {"color": _PALE},
             "hovertemplate": "%{x:,.2f} h<extra>not kept</extra>"},
            {"type": "scatter", "mode": "markers", "name": "kept before", "y": names,
             "x": [row.kept_before for row in shown],
             "marker": {"symbol": "line-ns", "size": 16, "line": {"width": 3, "color": LIGHT["ink"]}},
             "hovertemplate": "%{x:,.2f} h<extra>kept before</extra>"},
        ],
        "layout": layout,
    }  # fmt: skip


def draw_waveform(samples: Waveform, words: Sequence[WordTime] = ()) -> Figure:
    """Draw the waveform, and above it each word over its time. Neighbouring words are on different lines."""
    times, low, high = compute_envelope(samples)
    layout = _layout("waveform, and words at estimated times" if words else "waveform", height=200 if words else 130)
    layout["yaxis"] |= {"range": [-1, 2.2 if words else 1], "fixedrange": True, "tickvals": [-1, 0, 1]}
    layout["xaxis"] |= {"range": [0, len(samples) / SAMPLE_RATE]}
    layout["shapes"] = [_word_line(word.start, place) for place, word in enumerate(words)]
    line = {"color": LIGHT["blue"], "width": 1}
    return {
        "data": [
            {"type": "scatter", "mode": "lines", "x": times, "y": low, "line": line, "hoverinfo": "skip"},
            {"type": "scatter", "mode": "lines", "x": times, "y": high, "line": line, "fill": "tonexty",
             "hoverinfo": "skip"},
            {"type": "scatter", "mode": "text", "x": [word.start for word in words],
             "y": [_word_height(place) for place in range(len(words))], "text": [word.word for word in words],
             "textposition": "middle right", "textfont": {"color": LIGHT["ink"], "size": 12}, "cliponaxis": False,
             "hovertemplate": "%{text}: from %{x:.2f} s<extra></extra>"},
        ],
        "layout": layout,
    }  # fmt: skip


def draw_spectrogram(samples: Waveform) -> Figure:
    times, frequencies, levels = measure_spectrogram(samples)
    layout = _layout("spectrogram, 0 to 8 kHz", height=210)
    layout["xaxis"] |= {"title": {"text": "seconds"}}
    layout["yaxis"] |= {"fixedrange": True}
    return {
        "data": [
            {"type": "heatmap", "x": times, "y": frequencies, "z": levels, "colorscale": "Magma", "showscale": False,
             "zmin": -90, "zmax": -20, "hovertemplate": "%{x:.2f} s, %{y:.0f} Hz: %{z} dB<extra></extra>"},
        ],
        "layout": layout,
    }  # fmt: skip


def _word_height(place: int) -> float:
    """Return the y coordinate of the word with this index."""
    return 2.0 - 0.4 * (place % 3)


def _word_line(x: Seconds, place: int) -> dict[str, Any]:
    """Return a vertical line at ``x``, the start of the word with this index."""
    return {"type": "line", "x0": x, "x1": x, "y0": -1, "y1": _word_height(place), "layer": "below",
            "line": {"color": LIGHT["grid"], "width": 1}}  # fmt: skip


def _layout(title: str, *, height: int) -> dict[str, Any]:
    axis = {"gridcolor": LIGHT["grid"], "zeroline": False, "tickfont": {"size": 11}}
    return {
        "title": {"text": title, "font": {"size": 13, "color": LIGHT["ink"]}, "x": 0.02, "y": 0.97, "yanchor": "top"},
        "height": height,
        "margin": {"l": 44, "r": 10, "t": 30, "b": 26},
        "font": {"family": FONT, "color": LIGHT["muted"]},
        "paper_bgcolor": LIGHT["paper"],
        "plot_bgcolor": LIGHT["paper"],
        "showlegend": False,
        "xaxis": dict(axis),
        "yaxis": {**axis, "tickformat": "~s"},
    }


def _limit_line(x: float) -> dict[str, Any]:
    """Return a vertical dotted line at ``x``, which marks a limit."""
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper",
            "line": {"color": LIGHT["reject"], "width": 1.5, "dash": "dot"}}  # fmt: skip


def _brush_area(low: float, high: float) -> dict[str, Any]:
    """Return a shaded rectangle from ``low`` to ``high``, which marks the brushed range."""
    return {"type": "rect", "x0": low, "x1": high, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
            "fillcolor": LIGHT["blue"], "opacity": 0.12, "line": {"width": 0}}  # fmt: skip


def _is_steep(counts: Sequence[int]) -> bool:
    """Return whether one bin holds more than 60 % of the segments, so that a linear axis would hide other bins."""
    return max(counts, default=0) > 0.6 * sum(counts) > 0

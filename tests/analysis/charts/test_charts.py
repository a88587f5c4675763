"""Charts and number formatting."""

import xml.etree.ElementTree as ET
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.analysis.charts.numbers import (
    format_between,
    format_count,
    format_duration,
    format_rate,
    format_share,
    format_usd,
    round_ticks,
    time_ticks,
)
from validation.analysis.charts.svg import DARK, LIGHT
from validation.analysis.charts.time_chart import HEIGHT, WIDTH, Forecast, Series, TimeChart, draw_time_chart

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("formatted", "expected"),
    [
        (format_count(507_387), "507,387"),
        (format_count(None), "–"),
        (format_share(Decimal("0.9996")), ">99.9 %"),
        (format_share(0.0004), "<0.1 %"),
        (format_share(1), "100 %"),
        (format_share(0.5), "50.0 %"),
        (format_usd(Decimal("1234.5")), "$1,234.50"),
        (format_rate(0.123456), "0.123"),
        (format_rate(Decimal(2214)), "2,214"),
        (format_duration(59), "59 s"),
        (format_duration(3700), "1 h 1 min"),
        (format_duration(200_000), "2 d 7 h"),
        (format_between(60, None, format_duration), "at least 1 min 0 s"),
        (format_between(None, None, format_duration), "–"),
    ],
)
def test_number_formats(formatted, expected):
    """An unknown number is a dash and never a zero; 99.96 % is not shown as 100 %."""
    assert formatted == expected


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_span_their_axis_in_round_steps(low, span):
    """The first tick is at most the lowest value, the last at least the highest, and there are at most seven."""
    ticks = round_ticks(low, low + span)
    assert ticks[0] <= low + 1e-6 * span + 1e-9 * abs(low)
    assert ticks[-1] >= low + span - 1e-6 * span - 1e-9 * abs(low)
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize("length_s", [90, 3600, 40_000, 300_000, 604_800])
def test_time_ticks_are_round_and_at_most_eight(length_s):
    """Whole minutes, hours or days, within the span."""
    ticks, write = time_ticks(1_790_000_123, 1_790_000_123 + length_s)
    assert 1 <= len(ticks) <= 8
    assert all(tick % 60 == 0 for tick in ticks)
    assert len({write(tick) for tick in ticks}) == len(ticks)


def chart(points, **options) -> TimeChart:
    return TimeChart("Things <left>", "a note & more", [Series("things", "blue", points)], **options)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 4e6), st.just(0.0) | st.floats(1e-3, 1e12)), max_size=20))
def test_every_point_lies_inside_the_chart(points):
    """For any values the SVG is well-formed and nothing is drawn outside it."""
    points = sorted(points)
    forecast = Forecast(0.0, 6e6, 5e6, None) if points else None
    root = ET.fromstring(draw_time_chart(chart(points, forecast=forecast)))
    assert root.find(f"{SVG}title").text == "Things <left>"
    for shape in root.iter(f"{SVG}path"):
        for pair in shape.get("d")[1:].split("L"):
            x, y = map(float, pair.split())
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_chart_without_points_says_nothing_yet():
    """A fleet without history still has a chart."""
    assert "nothing yet" in draw_time_chart(chart([]))


def test_stacked_shares_reach_the_ceiling():
    """Stacked shares that add up to one fill the chart from bottom to top."""
    halves = [Series(name, colour, [(0, 0.5), (60, 0.5)]) for name, colour in (("a", "accept"), ("b", "reject"))]
    svg = draw_time_chart(TimeChart("Shares", "", halves, stacked=True, ceiling=1.0))
    areas = [p.get("d") for p in ET.fromstring(svg).iter(f"{SVG}path") if "fill-" in (p.get("class") or "")]
    heights = [[float(pair.split()[1]) for pair in area[1:].split("L")] for area in areas]
    assert heights[0][0] == heights[1][-1]  # the second lies on the first
    assert heights[1][0] == 62


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_palette_meets_wcag_contrast(palette):
    """Letters have a contrast of at least 4.5 to the background and shapes of at least 3, in light and dark mode."""
    for paper in ("paper", "raised"):
        for letters in ("ink", "muted"):
            assert contrast(palette[letters], palette[paper]) >= 4.5, letters
        for shape in ("accept", "review", "reject", "blue"):
            assert contrast(palette[shape], palette[paper]) >= 3, shape

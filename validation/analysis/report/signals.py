"""Which numbers are shown of a segment, and between which bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from validation.analysis.charts.ticks import round_ticks

SAMPLE_ROWS = 500_000
"""Rows from which bounds are taken: only bounds. What is counted is counted over all rows."""
OUTSIDE = 0.01
"""Share of the rows below the lower bound, and above the upper one; they count into the outermost bins."""
NOT_SHOWN = frozenset(
    {"segment_index", "start_s", "end_s", "language_votes_for", "language_votes_against", "language_abstentions"}
)
"""Numbers that are places or counts of judges."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A number that is known of many segments."""

    name: str
    unit: str
    description: str
    low: float
    usual: float
    """The median."""
    high: float


def find_signals(segments: pl.LazyFrame, described: Mapping[str, pa.Field]) -> list[Signal]:
    """Name the numbers of a suite, in the order of their columns, with bounds that hold nearly all of their values.

    Args:
        segments: the rows.
        described: the columns as shards describe them, with units and meanings.
    """
    numeric = [name for name, kind in segments.collect_schema().items() if kind.is_numeric() and name not in NOT_SHOWN]
    bounds = _take_bounds(segments, numeric)
    return [_describe(name, described.get(name), *bounds[name]) for name in numeric if name in bounds]


def _take_bounds(segments: pl.LazyFrame, names: Sequence[str]) -> Mapping[str, tuple[float, float, float]]:
    """Quantiles over whole videos drawn by their hash, so that long ones do not crowd out the others."""
    rows = segments.select(pl.len()).collect(engine="streaming").item()
    one_in = max(rows // SAMPLE_ROWS, 1)
    sample = segments.filter(pl.col("video_id").hash(seed=0) % one_in == 0)
    asked = [
        pl.concat_list(pl.col(name).cast(pl.Float64).quantile(q) for q in (OUTSIDE, 0.5, 1 - OUTSIDE)).alias(name)
        for name in names
    ]
    found = sample.select(asked).collect(engine="streaming") if asked else pl.DataFrame()
    known = {name: found[name][0].to_list() for name in found.columns}
    return {name: _round_out(*values) for name, values in known.items() if None not in values}


def _round_out(low: float, usual: float, high: float) -> tuple[float, float, float]:
    ticks = round_ticks(low, high, count=10)
    return ticks[0], usual, ticks[-1]


def _describe(name: str, field: pa.Field | None, low: float, usual: float, high: float) -> Signal:
    said = (field.metadata if field is not None else None) or {}
    return Signal(name, said.get(b"unit", b"").decode(), said.get(b"description", b"").decode(), low, usual, high)

"""The numeric columns that the report shows, the range of their axes, and their distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from validation.analysis.charts.histogram import Distribution, QuantileStrip
from validation.analysis.charts.numbers import round_ticks
from validation.scoring.verdict import Rules

VERDICTS = ("accept", "review", "reject")
BINS = 48
"""Number of bars of a histogram."""
MAX_STRIPS = 30
"""Maximum number of languages whose quantiles a chart shows. Languages with more hours come first."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that a chart shows per language."""
SAMPLE_ROWS = 100_000
"""Approximate minimum number of rows that are sampled to find the range of an axis, at most twice as many. Counts are
taken over all rows."""
TAIL_SHARE = 0.01
"""Maximum share of the sampled values below the range of an axis, and above it. The outermost bins count them."""
NOT_SHOWN = frozenset(
    {
        "segment_index", "start_s", "end_s", "language_votes_for", "language_votes_against", "language_abstentions",
        "margin",
    }
)  # fmt: skip
"""Numeric columns that are not shown: positions in the audio, counts of votes, and the margin that the rules give."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A numeric column of a shard, with its median in a sample and the range of its axis (``low`` to ``high``)."""

    name: str
    unit: str
    description: str
    low: float
    median: float
    high: float


def find_signals(segments: pl.LazyFrame, fields: Mapping[str, pa.Field]) -> list[Signal]:
    """List the numeric columns of the segments in column order, each with a range that holds about 98 % of its values.

    A column without any value is left out.

    Args:
        segments: the rows of the shards.
        fields: the columns' Arrow fields, whose metadata holds units and descriptions.
    """
    numeric = [name for name, kind in segments.collect_schema().items() if kind.is_numeric() and name not in NOT_SHOWN]
    ranges = _measure_ranges(segments, numeric)
    return [_make_signal(name, fields.get(name), *ranges[name]) for name in numeric if name in ranges]


def _measure_ranges(segments: pl.LazyFrame, names: Sequence[str]) -> Mapping[str, tuple[float, float, float]]:
    """Return the axis' lower end, the median and the axis' upper end per column, from a sample of whole videos."""
    rows = segments.select(pl.len()).collect(engine="streaming").item()
    one_in = max(rows // SAMPLE_ROWS, 1)
    sampled = segments.filter(pl.col("video_id").hash(seed=0) % one_in == 0).select(names)
    sample = sampled.collect(engine="streaming")  # apart from the quantiles, which would read all rows into memory
    quantiles = [
        pl.concat_list(pl.col(name).cast(pl.Float64).quantile(q) for q in (TAIL_SHARE, 0.5, 1 - TAIL_SHARE)).alias(name)
        for name in names
    ]
    found = sample.select(quantiles) if quantiles else pl.DataFrame()
    known = {name: found[name][0].to_list() for name in found.columns}
    return {name: _round_outwards(*values) for name, values in known.items() if None not in values}


def _round_outwards(low: float, median: float, high: float) -> tuple[float, float, float]:
    """Move both ends of a range outwards to round numbers. The median does not change."""
    ticks = round_ticks(low, high, count=10)
    return ticks[0], median, ticks[-1]


def _make_signal(name: str, field: pa.Field | None, low: float, median: float, high: float) -> Signal:
    metadata = (field.metadata if field is not None else None) or {}
    unit, description = metadata.get(b"unit", b"").decode(), metadata.get(b"description", b"").decode()
    return Signal(name, unit, description, low, median, high)


def describe_distribution(signal: Signal, counts: pl.DataFrame, rules: Rules, languages: Sequence[str]) -> Distribution:
    """Group the counts of a signal by verdict and by language, and add the limits of the rules within its range.

    Args:
        signal: the signal that was counted.
        counts: rows with the columns ``language, verdict, bin, count``.
        rules: the rules whose limits on this signal are drawn.
        languages: the languages in display order.
    """
    by_verdict = [(verdict, _counts_per_bin(counts.filter(pl.col("verdict") == verdict))) for verdict in VERDICTS]
    strips = []
    for language in languages[:MAX_STRIPS]:
        bins = _counts_per_bin(counts.filter(pl.col("language") == language))
        if any(bins):
            strips.append(QuantileStrip(language, find_quantiles(bins, signal.low, signal.high)))
    limits = [limit for limit in find_limits(signal.name, rules) if signal.low <= limit[0] <= signal.high]
    return Distribution(signal.name, signal.low, signal.high, by_verdict, limits, strips)


def find_limits(column: str, rules: Rules) -> list[tuple[float, str]]:
    """Return the numbers with which rules compare a column, each with the verdict of its rule, in ascending order.

    Limits of single languages are left out.
    """
    limits = {
        (float(condition.value), str(rule.verdict))
        for rule in rules.effective
        for condition in rule.when
        if condition.column == column and isinstance(condition.value, int | float)
    }
    return sorted(limits)


def find_quantiles(bins: Sequence[int], low: float, high: float) -> tuple[float, float, float, float, float]:
    """Estimate the five ``QUANTILES`` of values that were counted in bins of equal width from ``low`` to ``high``.

    Values are assumed to be uniformly distributed within each bin.
    """
    total, width = sum(bins), (high - low) / len(bins)

    def find(share: float) -> float:
        below = 0
        for number, count in enumerate(bins):
            if count and below + count >= share * total:
                return low + (number + (share * total - below) / count) * width
            below += count
        return high

    first, second, third, fourth, fifth = map(find, QUANTILES)
    return first, second, third, fourth, fifth


def _counts_per_bin(counts: pl.DataFrame) -> list[int]:
    """Return the number of segments per bin, with zeros for empty bins."""
    found = dict(counts.group_by("bin").agg(pl.col("count").sum()).iter_rows())
    return [found.get(number, 0) for number in range(BINS)]

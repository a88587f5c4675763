"""From counts in bins to pictures of how a signal is spread."""

from collections.abc import Sequence

import polars as pl

from validation.analysis.charts.histogram import Distribution, QuantileStrip
from validation.analysis.report.findings import BINS, VERDICTS
from validation.analysis.report.signals import Signal
from validation.scoring.verdict import Rules

MAX_STRIPS = 8
"""Languages that are shown by themselves: those with the most hours."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe_distribution(signal: Signal, counts: pl.DataFrame, rules: Rules, languages: Sequence[str]) -> Distribution:
    """Arrange the bins of a signal by verdict and by language, with the limits that rules draw.

    Args:
        signal: what was counted.
        counts: ``language, verdict, bin, count``.
        rules: whose comparisons of the signal are its limits.
        languages: in the order in which they are shown.
    """
    by_verdict = [(verdict, _spread(counts.filter(pl.col("verdict") == verdict))) for verdict in VERDICTS]
    strips = []
    for language in languages[:MAX_STRIPS]:
        bins = _spread(counts.filter(pl.col("language") == language))
        if any(bins):
            strips.append(QuantileStrip(language, find_quantiles(bins, signal.low, signal.high)))
    limits = [limit for limit in find_limits(signal.name, rules) if signal.low <= limit[0] <= signal.high]
    return Distribution(signal.name, signal.low, signal.high, by_verdict, limits, strips)


def find_limits(column: str, rules: Rules) -> list[tuple[float, str]]:
    """The values with which rules compare a column, each with the verdict that it leads to."""
    limits = {
        (float(condition.value), str(rule.verdict))
        for rule in rules.effective
        for condition in rule.when
        if condition.column == column and isinstance(condition.value, int | float)
    }
    return sorted(limits)


def find_quantiles(bins: Sequence[int], low: float, high: float) -> tuple[float, float, float, float, float]:
    """Quantiles of what was counted in equal bins, as if it lay evenly within each."""
    total, width = sum(bins), (high - low) / len(bins)

    def find(share: float) -> float:
        below = 0
        for place, count in enumerate(bins):
            if count and below + count >= share * total:
                return low + (place + (share * total - below) / count) * width
            below += count
        return high

    first, second, third, fourth, fifth = map(find, QUANTILES)
    return first, second, third, fourth, fifth


def _spread(counts: pl.DataFrame) -> list[int]:
    """Counts by bin, noughts included."""
    found = dict(counts.group_by("bin").agg(pl.col("count").sum()).iter_rows())
    return [found.get(place, 0) for place in range(BINS)]

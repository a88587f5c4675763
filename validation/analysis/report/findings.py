"""The aggregates of the report, counted over all current segments.

All queries are collected by polars together, so the shards are read once or twice, not once per query. The ranges of
the signals are measured before, in two passes of their own (``find_signals``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import polars as pl

from validation.analysis.report.rule_margin import MARGIN, rule_margin, rules_by_reason
from validation.analysis.report.signals import BINS, VERDICTS, Signal
from validation.analysis.selection.summary import ReasonSummary, count_reasons
from validation.scoring.verdict import Rules

Row: TypeAlias = Mapping[str, Any]

MAX_CONFUSIONS = 12
"""Pairs of a declared and a predicted language that are listed."""

_LANGUAGE = pl.coalesce("language_code", "language", pl.lit("unknown")).alias("language")


@dataclass(frozen=True, slots=True)
class Findings:
    """The aggregates."""

    languages: Sequence[Row]
    """``language, segments, hours``; segments by verdict, and hours by verdict as ``*_hours``. Most hours first."""
    reasons: Sequence[ReasonSummary]
    histograms: Mapping[str, pl.DataFrame]
    """By signal: ``language, verdict, bin, count``; the outermost bins include values beyond the range."""
    lid_votes: Sequence[Row]
    """``model, language``, and in how many segments the LID model ``agrees, differs, abstains`` or is ``unscored``."""
    lid_pairs: Sequence[Row]
    """``one, other, both, same``: segments in which two LID models predicted a language, and the same language."""
    confusions: Sequence[Row]
    """``model, declared, predicted, count``: predictions other than the declared language, most frequent first."""
    correlations: Mapping[tuple[str, str], float | None]
    """Pearson's r of two signals that rules read, over segments that have both."""
    worst: Sequence[Row]
    """Per reason the segments with the largest margin, with every column."""
    borderline: Sequence[Row]
    """The segments with the smallest absolute margin, with every column."""

    @property
    def segments(self) -> int:
        return sum(row["segments"] for row in self.languages)

    def count(self, verdict: str) -> int:
        """Segments with a verdict."""
        return sum(row[verdict] for row in self.languages)

    def hours(self, verdict: str | None = None) -> float:
        return float(sum(row[f"{verdict}_hours" if verdict else "hours"] for row in self.languages))


def gather_findings(
    segments: pl.LazyFrame, rules: Rules, signals: Sequence[Signal], *, worst_per_reason: int, borderline: int
) -> Findings:
    """Compute every aggregate.

    Args:
        segments: from ``apply_rules``, by ``rules``.
        rules: the rules of the verdicts.
        signals: from ``find_signals``.
        worst_per_reason: segments to show for each reason.
        borderline: segments to show whose verdict is closest to changing.
    """
    names = segments.collect_schema().names()
    models = [name.removesuffix("_declared_p") for name in names if name.endswith("_declared_p")]
    models = [model for model in models if f"{model}_language" in names]
    compared = [signal.name for signal in signals if signal.name in rules.columns]
    plans: dict[str, pl.LazyFrame] = {
        "languages": _by_language(segments),
        "reasons": count_reasons(segments, rules, ["accept"]),
        **{f"histogram {signal.name}": _histogram(segments, signal) for signal in signals},
        **{f"votes {model}": _lid_votes(segments, model) for model in models},
        **{f"confusions {model}": _confusions(segments, model) for model in models},
        "pairs": segments.select(_lid_pair(*pair) for pair in combinations(models, 2)),
        "correlations": segments.select(_correlation(*pair) for pair in combinations(compared, 2)),
        **_plan_samples(segments, rules, signals, worst_per_reason=worst_per_reason, borderline=borderline),
    }
    found = dict(zip(plans, pl.collect_all(list(plans.values()), engine="streaming"), strict=True))
    return Findings(
        languages=found["languages"].rows(named=True),
        reasons=[ReasonSummary(**row) for row in found["reasons"].iter_rows(named=True)],
        histograms={signal.name: found[f"histogram {signal.name}"] for signal in signals},
        lid_votes=[row for model in models for row in found[f"votes {model}"].rows(named=True)],
        lid_pairs=[_read_pair(found["pairs"], *pair) for pair in combinations(models, 2)],
        confusions=_read_confusions([found[f"confusions {model}"] for model in models]),
        correlations={pair: _read_correlation(found["correlations"], *pair) for pair in combinations(compared, 2)},
        worst=[row for name in found if name.startswith("worst ") for row in found[name].rows(named=True)],
        borderline=found["borderline"].rows(named=True),
    )


def _by_language(segments: pl.LazyFrame) -> pl.LazyFrame:
    hours = pl.col("duration_s").sum() / 3600
    counts = [(pl.col("verdict") == verdict).sum().alias(verdict) for verdict in VERDICTS]
    hours_by_verdict = [
        (pl.col("duration_s").filter(pl.col("verdict") == verdict).sum() / 3600).alias(f"{verdict}_hours")
        for verdict in VERDICTS
    ]
    return (
        segments.group_by(_LANGUAGE)
        .agg(pl.len().alias("segments"), hours.alias("hours"), *counts, *hours_by_verdict)
        .sort(["hours", "language"], descending=[True, False])
    )


def _histogram(segments: pl.LazyFrame, signal: Signal) -> pl.LazyFrame:
    position = (pl.col(signal.name).cast(pl.Float64) - signal.low) / (signal.high - signal.low) * BINS
    return (
        segments.filter(pl.col(signal.name).is_not_null())
        .group_by(_LANGUAGE, "verdict", position.floor().clip(0, BINS - 1).cast(pl.Int32).alias("bin"))
        .agg(pl.len().alias("count"))
    )


def _lid_votes(segments: pl.LazyFrame, model: str) -> pl.LazyFrame:
    """A LID model that does not know the declared language abstains; a model without an answer is ``unscored``."""
    unscored = pl.col(f"{model}_fault").is_not_null()
    abstains = ~unscored & pl.col(f"{model}_declared_p").is_null()
    matches = pl.col(f"{model}_language") == pl.col("language_code")
    voted = ~unscored & ~abstains
    votes = {"agrees": voted & matches, "differs": voted & ~matches, "abstains": abstains, "unscored": unscored}
    return (
        segments.group_by(_LANGUAGE)
        .agg(
            pl.lit(model).alias("model"),
            *(vote.fill_null(value=False).sum().alias(name) for name, vote in votes.items()),
        )
        .sort("language")
    )


def _confusions(segments: pl.LazyFrame, model: str) -> pl.LazyFrame:
    predicted = pl.col(f"{model}_language")
    differing = segments.filter(pl.col(f"{model}_declared_p").is_not_null() & (predicted != pl.col("language_code")))
    return differing.group_by(
        pl.lit(model).alias("model"), pl.col("language_code").alias("declared"), predicted.alias("predicted")
    ).agg(pl.len().alias("count"))


def _read_confusions(found: Sequence[pl.DataFrame]) -> Sequence[Row]:
    rows = [row for frame in found for row in frame.rows(named=True)]
    return sorted(rows, key=lambda row: (-row["count"], row["declared"], row["predicted"]))[:MAX_CONFUSIONS]


def _lid_pair(one: str, other: str) -> pl.Expr:
    a, b = pl.col(f"{one}_language"), pl.col(f"{other}_language")
    both = a.is_not_null() & b.is_not_null()
    return pl.struct(both.sum().alias("both"), (both & (a == b)).sum().alias("same")).alias(f"{one} {other}")


def _read_pair(found: pl.DataFrame, one: str, other: str) -> Row:
    return {"one": one, "other": other, **found[f"{one} {other}"][0]}


def _correlation(one: str, other: str) -> pl.Expr:
    known = pl.col(one).is_not_null() & pl.col(other).is_not_null()
    return pl.corr(pl.col(one).cast(pl.Float64).filter(known), pl.col(other).cast(pl.Float64).filter(known)).alias(
        f"{one} {other}"
    )


def _read_correlation(found: pl.DataFrame, one: str, other: str) -> float | None:
    """None where one of the two signals is constant: its correlation is undefined."""
    value = found[f"{one} {other}"][0]
    return None if value is None or value != value else float(value)  # noqa: PLR0124 - NaN is not itself


def _plan_samples(
    segments: pl.LazyFrame, rules: Rules, signals: Sequence[Signal], *, worst_per_reason: int, borderline: int
) -> dict[str, pl.LazyFrame]:
    """Per reason the largest margins, and overall the smallest. Only segments that could be decoded are shown."""
    by_name = {signal.name: signal for signal in signals}
    is_decoded = pl.col("fault").is_null()
    plans = {
        f"worst {reason}": segments.filter(is_decoded & (pl.col("reasons").list.get(0, null_on_oob=True) == reason))
        .with_columns(rule_margin(grouped, by_name))
        .sort(MARGIN, "video_id", "segment_index", descending=[True, False, False])
        .head(worst_per_reason)
        for reason, grouped in rules_by_reason(rules).items()
    }
    nearest = segments.with_columns(rule_margin(rules.effective, by_name)).filter(
        is_decoded & pl.col(MARGIN).is_finite()
    )
    plans["borderline"] = nearest.sort(pl.col(MARGIN).abs(), "video_id", "segment_index").head(borderline)
    return plans

"""Everything that the page says, counted over all current segments.

All questions are put to polars together, which then reads the shards once or twice, not once a question. The bounds of
the signals are taken before, in two readings of their own (``find_signals``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import polars as pl

from validation.analysis.report.rule_margin import DOUBT, rule_margin, rules_by_reason
from validation.analysis.report.signals import Signal
from validation.analysis.selection.summary import ReasonTally, count_reasons
from validation.scoring.verdict import Rules

Row: TypeAlias = Mapping[str, Any]

BINS = 48
"""Bars of a distribution."""
CONFUSIONS = 12
"""Pairs of a declared and a heard language that are named."""
VERDICTS = ("accept", "review", "reject")

_LANGUAGE = pl.coalesce("language_code", "language", pl.lit("unknown")).alias("language")


@dataclass(frozen=True, slots=True)
class Findings:
    """What was counted."""

    languages: Sequence[Row]
    """``language, segments, hours``; segments by verdict, and hours by verdict as ``*_hours``. Most hours first."""
    reasons: Sequence[ReasonTally]
    histograms: Mapping[str, pl.DataFrame]
    """By signal: ``language, verdict, bin, count``; a value beyond the bounds is in the outermost bin."""
    judges: Sequence[Row]
    """``judge, language``, and in how many segments it ``agrees, differs, abstains`` or is ``silent``."""
    pairs: Sequence[Row]
    """``one, other, both, same``: segments in which two judges named a language, and named the same."""
    confusions: Sequence[Row]
    """``judge, declared, heard, count``: what is heard instead, the most frequent first."""
    correlations: Mapping[tuple[str, str], float | None]
    """Pearson's r of two signals that rules read, over segments that have both."""
    worst: Sequence[Row]
    """By reason the segments furthest from acceptance, with all that is shown of a segment."""
    borderline: Sequence[Row]
    """Those whose verdict hangs by the least."""

    @property
    def segments(self) -> int:
        return sum(row["segments"] for row in self.languages)

    def hours(self, verdict: str | None = None) -> float:
        return float(sum(row[f"{verdict}_hours" if verdict else "hours"] for row in self.languages))


def gather_findings(
    judged: pl.LazyFrame, rules: Rules, signals: Sequence[Signal], *, worst_a_reason: int, borderline: int
) -> Findings:
    """Count everything.

    Args:
        judged: from ``judge_segments``, by ``rules``.
        rules: what the verdicts are by.
        signals: from ``find_signals``.
        worst_a_reason: segments to show for each reason.
        borderline: segments to show of those that nearly had another verdict.
    """
    names = judged.collect_schema().names()
    judges = [name.removesuffix("_declared_p") for name in names if name.endswith("_declared_p")]
    judges = [judge for judge in judges if f"{judge}_language" in names]
    read = [signal.name for signal in signals if signal.name in rules.columns]
    plans: dict[str, pl.LazyFrame] = {
        "languages": _by_language(judged),
        "reasons": count_reasons(judged, rules, ["accept"]),
        **{f"histogram {signal.name}": _histogram(judged, signal) for signal in signals},
        **{f"judge {judge}": _by_judge(judged, judge) for judge in judges},
        **{f"heard {judge}": _confusions(judged, judge) for judge in judges},
        "pairs": judged.select(_pair(*pair) for pair in combinations(judges, 2)),
        "correlations": judged.select(_correlate(*pair) for pair in combinations(read, 2)),
        **_plan_samples(judged, rules, signals, worst_a_reason=worst_a_reason, borderline=borderline),
    }
    found = dict(zip(plans, pl.collect_all(list(plans.values()), engine="streaming"), strict=True))
    return Findings(
        languages=found["languages"].rows(named=True),
        reasons=[ReasonTally(**row) for row in found["reasons"].iter_rows(named=True)],
        histograms={signal.name: found[f"histogram {signal.name}"] for signal in signals},
        judges=[row for judge in judges for row in found[f"judge {judge}"].rows(named=True)],
        pairs=[_read_pair(found["pairs"], *pair) for pair in combinations(judges, 2)],
        confusions=_read_confusions([found[f"heard {judge}"] for judge in judges]),
        correlations={pair: _read_correlation(found["correlations"], *pair) for pair in combinations(read, 2)},
        worst=[row for name in found if name.startswith("worst ") for row in found[name].rows(named=True)],
        borderline=found["borderline"].rows(named=True),
    )


def _by_language(judged: pl.LazyFrame) -> pl.LazyFrame:
    hours = pl.col("duration_s").sum() / 3600
    counts = [(pl.col("verdict") == verdict).sum().alias(verdict) for verdict in VERDICTS]
    spans = [
        (pl.col("duration_s").filter(pl.col("verdict") == verdict).sum() / 3600).alias(f"{verdict}_hours")
        for verdict in VERDICTS
    ]
    return (
        judged.group_by(_LANGUAGE)
        .agg(pl.len().alias("segments"), hours.alias("hours"), *counts, *spans)
        .sort(["hours", "language"], descending=[True, False])
    )


def _histogram(judged: pl.LazyFrame, signal: Signal) -> pl.LazyFrame:
    place = (pl.col(signal.name).cast(pl.Float64) - signal.low) / (signal.high - signal.low) * BINS
    return (
        judged.filter(pl.col(signal.name).is_not_null())
        .group_by(_LANGUAGE, "verdict", place.floor().clip(0, BINS - 1).cast(pl.Int32).alias("bin"))
        .agg(pl.len().alias("count"))
    )


def _by_judge(judged: pl.LazyFrame, judge: str) -> pl.LazyFrame:
    """A judge that does not know the declared language abstains; one without an answer is silent."""
    silent = pl.col(f"{judge}_fault").is_not_null()
    abstains = ~silent & pl.col(f"{judge}_declared_p").is_null()
    agrees = pl.col(f"{judge}_language") == pl.col("language_code")
    told = ~silent & ~abstains
    sums = {"agrees": told & agrees, "differs": told & ~agrees, "abstains": abstains, "silent": silent}
    return (
        judged.group_by(_LANGUAGE)
        .agg(
            pl.lit(judge).alias("judge"),
            *(part.fill_null(value=False).sum().alias(name) for name, part in sums.items()),
        )
        .sort("language")
    )


def _confusions(judged: pl.LazyFrame, judge: str) -> pl.LazyFrame:
    heard = pl.col(f"{judge}_language")
    differing = judged.filter(pl.col(f"{judge}_declared_p").is_not_null() & (heard != pl.col("language_code")))
    return differing.group_by(
        pl.lit(judge).alias("judge"), pl.col("language_code").alias("declared"), heard.alias("heard")
    ).agg(pl.len().alias("count"))


def _read_confusions(found: Sequence[pl.DataFrame]) -> Sequence[Row]:
    rows = [row for frame in found for row in frame.rows(named=True)]
    return sorted(rows, key=lambda row: (-row["count"], row["declared"], row["heard"]))[:CONFUSIONS]


def _pair(one: str, other: str) -> pl.Expr:
    a, b = pl.col(f"{one}_language"), pl.col(f"{other}_language")
    both = a.is_not_null() & b.is_not_null()
    return pl.struct(both.sum().alias("both"), (both & (a == b)).sum().alias("same")).alias(f"{one} {other}")


def _read_pair(found: pl.DataFrame, one: str, other: str) -> Row:
    return {"one": one, "other": other, **found[f"{one} {other}"][0]}


def _correlate(one: str, other: str) -> pl.Expr:
    known = pl.col(one).is_not_null() & pl.col(other).is_not_null()
    return pl.corr(pl.col(one).cast(pl.Float64).filter(known), pl.col(other).cast(pl.Float64).filter(known)).alias(
        f"{one} {other}"
    )


def _read_correlation(found: pl.DataFrame, one: str, other: str) -> float | None:
    """None where one of the two never changes: there is nothing to correlate."""
    value = found[f"{one} {other}"][0]
    return None if value is None or value != value else float(value)  # noqa: PLR0124 - NaN is not itself


def _plan_samples(
    judged: pl.LazyFrame, rules: Rules, signals: Sequence[Signal], *, worst_a_reason: int, borderline: int
) -> dict[str, pl.LazyFrame]:
    """By reason the furthest from acceptance; and those nearest to another verdict. Only what can be heard is shown."""
    by_name = {signal.name: signal for signal in signals}
    has_heartbeat = pl.col("fault").is_null()
    shown = {
        f"worst {reason}": judged.filter(has_heartbeat & (pl.col("reasons").list.get(0, null_on_oob=True) == reason))
        .with_columns(rule_margin(grouped, by_name))
        .sort(DOUBT, "video_id", "segment_index", descending=[True, False, False])
        .head(worst_a_reason)
        for reason, grouped in rules_by_reason(rules).items()
    }
    nearest = judged.with_columns(rule_margin(rules.effective, by_name)).filter(
        has_heartbeat & pl.col(DOUBT).is_finite()
    )
    shown["borderline"] = nearest.sort(pl.col(DOUBT).abs(), "video_id", "segment_index").head(borderline)
    return shown

"""The aggregates of the report, counted over all current segments.

Segments are read in parts of ``PART_ROWS`` rows, and the answers of the parts are joined, so memory does not grow with
the number of segments. The ranges of the signals are measured before, in two passes of their own (``find_signals``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import polars as pl

from validation.analysis.report.correlation import Moments, Pair, plan_moments, read_moments
from validation.analysis.report.queries import report_queries
from validation.analysis.report.signals import Signal
from validation.analysis.selection.summary import ReasonSummary, RuleSummary, summarize_reasons, summarize_rules
from validation.scoring.verdict import Rules

Row: TypeAlias = Mapping[str, Any]

MAX_CONFUSIONS = 12
"""Pairs of a declared and a predicted language that are listed."""
PART_ROWS = 50_000
"""Rows that are counted at a time; a row with every column takes about 1 kB."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The aggregates."""

    languages: Sequence[Row]
    """``language, segments, hours``; segments by verdict, and hours by verdict as ``*_hours``. Most hours first."""
    reasons: Sequence[ReasonSummary]
    rules: Sequence[RuleSummary]
    """The rules that fire, most hours first."""
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
    """Per reason the segments with the largest margin, of different videos first, with every column."""
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
    compared = [signal.name for signal in signals if signal.name in rules.columns]
    pairs = list(combinations(compared, 2))
    queries = report_queries(names, rules, signals, worst_per_reason=worst_per_reason, borderline=borderline)
    found: dict[str, pl.DataFrame] = {}
    moments = dict.fromkeys(pairs, Moments())
    for part in segments.collect_batches(chunk_size=PART_ROWS, engine="streaming"):
        plans = [query.plan(part.lazy()) for query in queries.values()]
        *answers, sums = pl.collect_all([*plans, plan_moments(part.lazy(), pairs)])
        for name, answer in zip(queries, answers, strict=True):
            known = pl.concat([found[name], answer]) if name in found else answer
            found[name] = queries[name].join(known)
        moments = {pair: moments[pair] + of_part for pair, of_part in read_moments(sums, pairs).items()}
    return _read_findings(found, rules, {pair: joined.correlation for pair, joined in moments.items()})


def _read_findings(
    found: Mapping[str, pl.DataFrame], rules: Rules, correlations: Mapping[Pair, float | None]
) -> Findings:
    def read(prefix: str) -> list[Row]:
        return [row for name in found if name.startswith(prefix) for row in found[name].rows(named=True)]

    return Findings(
        languages=sorted(read("languages"), key=lambda row: (-row["hours"], row["language"])),
        reasons=summarize_reasons(found["reasons"], rules, ["accept"]) if found else [],
        rules=summarize_rules(found["reasons"], rules) if found else [],
        histograms={name.removeprefix("histogram "): found[name] for name in found if name.startswith("histogram ")},
        lid_votes=[
            row for name in found if name.startswith("votes ") for row in found[name].sort("language").rows(named=True)
        ],
        lid_pairs=read("pair "),
        confusions=sorted(read("confusions "), key=lambda row: (-row["count"], row["declared"], row["predicted"]))[
            :MAX_CONFUSIONS
        ],
        correlations=correlations,
        worst=read("worst "),
        borderline=read("borderline"),
    )

"""The aggregates of the report, counted over all current segments.

Segments are read in parts of ``PART_ROWS`` rows, and the results of the parts are joined. So memory does not grow with
the number of segments. ``find_signals`` measures the ranges of the signals beforehand, in two separate passes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from validation.analysis.report.correlation import PairMoments
from validation.analysis.report.histograms import SignalHistograms
from validation.analysis.report.queries import report_queries
from validation.analysis.report.signals import Signal
from validation.analysis.selection.summary import ReasonSummary, RuleSummary, summarize_reasons, summarize_rules
from validation.scoring.verdict import Rules

Row: TypeAlias = Mapping[str, Any]

MAX_CONFUSIONS = 12
"""Maximum number of listed pairs of a declared and a predicted language."""
PART_ROWS = 50_000
"""Number of rows in one part. A row with every column takes about 1 kB of memory."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The aggregates of all segments of a report."""

    languages: Sequence[Row]
    """One row per language, most hours first: ``language, segments, hours``, a count of segments per verdict, and the
    hours per verdict as ``*_hours``."""
    reasons: Sequence[ReasonSummary]
    """The reasons of the segments that are not accepted, most hours first."""
    rules: Sequence[RuleSummary]
    """The rules that fired for at least one segment, most hours first."""
    histograms: Mapping[str, pl.DataFrame]
    """For each signal, rows of ``language, verdict, bin, count``. The outermost bins count values beyond the range."""
    lid_votes: Sequence[Row]
    """One row per LID model and language: ``model, language``, and the number of segments of each vote in the columns
    ``agrees, differs, abstains, unscored``."""
    lid_pairs: Sequence[Row]
    """One row per pair of LID models: ``one, other, both, same``. ``both`` counts the segments for which both models
    predicted a language, ``same`` those for which they predicted the same code."""
    confusions: Sequence[Row]
    """Rows of ``model, declared, predicted, count`` for predictions other than the declared language. They are the
    ``MAX_CONFUSIONS`` most frequent ones, by models that know the declared language."""
    correlations: Mapping[tuple[str, str], float | None]
    """Pearson's r of each pair of signals that rules read, over the segments that have both signals."""
    worst: Sequence[Row]
    """For each reason, decoded segments with this reason as the first one and the largest margin to its rules, with
    every column. Segments of different videos come first."""
    borderline: Sequence[Row]
    """The decoded segments with the smallest absolute margin to all rules, with every column."""

    @property
    def segments(self) -> int:
        return sum(row["segments"] for row in self.languages)

    def count(self, verdict: str) -> int:
        """Return the number of segments with a verdict."""
        return sum(row[verdict] for row in self.languages)

    def hours(self, verdict: str | None = None) -> float:
        """Return the hours of the segments with a verdict; None for all segments."""
        return float(sum(row[f"{verdict}_hours" if verdict else "hours"] for row in self.languages))


def gather_findings(
    segments: pl.LazyFrame, rules: Rules, signals: Sequence[Signal], *, worst_per_reason: int, borderline: int
) -> Findings:
    """Compute the aggregates of the report.

    Args:
        segments: the segments with the verdicts of ``rules``, from ``apply_rules``.
        rules: the rules that gave the verdicts.
        signals: the signals to count, from ``find_signals``.
        worst_per_reason: number of segments to show for each reason.
        borderline: number of segments with the smallest absolute margin to show.
    """
    names = segments.collect_schema().names()
    compared = PairMoments([signal for signal in signals if signal.name in rules.columns])
    histograms = SignalHistograms(signals)
    queries = report_queries(names, rules, signals, worst_per_reason=worst_per_reason, borderline=borderline)
    found: dict[str, pl.DataFrame] = {}
    for part in segments.collect_batches(chunk_size=PART_ROWS, engine="streaming"):
        answers = pl.collect_all([query.plan(part.lazy()) for query in queries.values()])
        for (name, query), answer in zip(queries.items(), answers, strict=True):
            of_part = query.complete(part, answer)
            found[name] = query.join(pl.concat([found[name], of_part]) if name in found else of_part)
        histograms.add(part)
        compared.add(part)
    return _read_findings(found, rules, histograms, compared)


def _read_findings(
    found: Mapping[str, pl.DataFrame], rules: Rules, histograms: SignalHistograms, compared: PairMoments
) -> Findings:
    """Build the findings from the results of ``report_queries``, by name, and from the two accumulators."""

    def read(prefix: str) -> list[Row]:
        return [row for name in found if name.startswith(prefix) for row in found[name].rows(named=True)]

    return Findings(
        languages=sorted(read("languages"), key=lambda row: (-row["hours"], row["language"])),
        reasons=summarize_reasons(found["reasons"], rules, ["accept"]) if found else [],
        rules=summarize_rules(found["reasons"], rules) if found else [],
        histograms=histograms.tables(),
        lid_votes=[
            row for name in found if name.startswith("votes ") for row in found[name].sort("language").rows(named=True)
        ],
        lid_pairs=read("pair "),
        confusions=sorted(read("confusions "), key=lambda row: (-row["count"], row["declared"], row["predicted"]))[
            :MAX_CONFUSIONS
        ],
        correlations=compared.correlations(),
        worst=read("worst "),
        borderline=read("borderline"),
    )

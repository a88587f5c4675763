"""How many hours are kept and lost, by language, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from validation.analysis.selection.verdicts import give_reasons
from validation.scoring.verdict import Decision, Rules

_HOURS = (pl.col("duration_s").sum() / 3600).alias("hours")
ACCEPTED = "nothing: it is accepted"
"""Said of what is lost only because accepted segments are not asked for."""


@dataclass(frozen=True, slots=True)
class LanguageTally:
    """What a selection keeps of a language. What could not be decoded has no hours."""

    language: str
    segments: int
    segments_kept: int
    hours: float
    hours_kept: float


@dataclass(frozen=True, slots=True)
class ReasonTally:
    """What a selection loses to a reason of a verdict that it does not keep. A segment with two counts for both."""

    reason: str
    segments: int
    hours: float
    hours_alone: float
    """Of segments that would be kept without it: what lifting this reason would win."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a selection keeps and loses."""

    languages: Sequence[LanguageTally]
    """The one with the most hours first."""
    reasons: Sequence[ReasonTally]
    """The one that costs the most first."""
    changed: int | None
    """Segments whose verdict is not the stored one; None where none is stored, since several revisions were joined."""


def tally_selection(judged: pl.LazyFrame, rules: Rules, keep: Collection[Decision]) -> Tally:
    """Count what is kept and lost. Reads the columns that rules and counts need, and no others.

    Args:
        judged: from ``judge_segments``, by ``rules``.
        rules: what the verdicts are by.
        keep: which verdicts are kept.
    """
    has_stored = "stored_verdict" in judged.collect_schema()
    differs = pl.col("stored_verdict") != pl.col("verdict") if has_stored else pl.lit(value=False)
    languages, reasons, changes = pl.collect_all(
        [_by_language(judged, keep), count_reasons(judged, rules, keep), judged.select(differs.sum())],
        engine="streaming",
    )
    return Tally(
        languages=[LanguageTally(**row) for row in languages.iter_rows(named=True)],
        reasons=[ReasonTally(**row) for row in reasons.iter_rows(named=True)],
        changed=changes.item() if has_stored else None,
    )


def _by_language(judged: pl.LazyFrame, keep: Collection[Decision]) -> pl.LazyFrame:
    is_kept = pl.col("verdict").is_in(list(keep))
    return (
        judged.group_by(pl.coalesce("language_code", "language", pl.lit("unknown")).alias("language"))
        .agg(
            pl.len().alias("segments"),
            is_kept.sum().alias("segments_kept"),
            _HOURS,
            (pl.col("duration_s").filter(is_kept).sum() / 3600).alias("hours_kept"),
        )
        .sort(["hours", "language"], descending=[True, False])
    )


def count_reasons(judged: pl.LazyFrame, rules: Rules, keep: Collection[Decision]) -> pl.LazyFrame:
    """Plan the rows of ``ReasonTally``; the arguments are those of ``tally_selection``."""
    against = [rule for rule in rules.effective if rule.verdict not in keep]
    reasons = give_reasons(against) if against else pl.lit([], pl.List(pl.String))
    only_one = pl.col("against").list.len() == 1
    is_left_with_one = pl.lit("accept" in keep) | (pl.col("reasons").list.set_difference("against").list.len() > 0)
    alone = pl.col("duration_s").filter(pl.col("::alone")).sum() / 3600
    return (
        judged.filter(~pl.col("verdict").is_in(list(keep)))
        .select("duration_s", "reasons", reasons.alias("against"))
        .with_columns((only_one & is_left_with_one).alias("::alone"))
        .explode("against", empty_as_null=True)
        .group_by(pl.col("against").fill_null(ACCEPTED).alias("reason"))
        .agg(pl.len().alias("segments"), _HOURS, alone.alias("hours_alone"))
        .sort(["hours", "reason"], descending=[True, False])
    )

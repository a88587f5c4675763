"""How many hours are kept and lost, by language, and why."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from validation.scoring.verdict import Decision

_HOURS = (pl.col("duration_s").sum() / 3600).alias("hours")
_IS_KEPT = pl.col("::kept")


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
    """What a selection loses to a reason. A segment with two reasons counts for both."""

    reason: str
    segments: int
    hours: float
    hours_alone: float
    """Of segments that nothing else speaks against: what lifting this reason would win."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a selection keeps and loses."""

    languages: Sequence[LanguageTally]
    """The one with the most hours first."""
    reasons: Sequence[ReasonTally]
    """The one that costs the most first."""
    changed: int | None
    """Segments whose verdict is not the stored one; None where none is stored, since several revisions were joined."""


def tally_selection(judged: pl.LazyFrame, keep: Collection[Decision]) -> Tally:
    """Count what is kept and lost. Reads the columns that rules and counts need, and no others.

    Args:
        judged: from ``judge_segments``.
        keep: which verdicts are kept.
    """
    has_stored = "stored_verdict" in judged.collect_schema()
    differs = pl.col("stored_verdict") != pl.col("verdict") if has_stored else pl.lit(value=False)
    segments = judged.select(
        pl.coalesce("language_code", "language", pl.lit("unknown")).alias("language"),
        "duration_s",
        "reasons",
        pl.col("verdict").is_in(list(keep)).alias("::kept"),
        differs.alias("::changed"),
    )
    changed = segments.select(pl.col("::changed").sum())
    languages, reasons, changes = pl.collect_all(
        [_by_language(segments), _by_reason(segments), changed], engine="streaming"
    )
    return Tally(
        languages=[LanguageTally(**row) for row in languages.iter_rows(named=True)],
        reasons=[ReasonTally(**row) for row in reasons.iter_rows(named=True)],
        changed=changes.item() if has_stored else None,
    )


def _by_language(segments: pl.LazyFrame) -> pl.LazyFrame:
    return (
        segments.group_by("language")
        .agg(
            pl.len().alias("segments"),
            _IS_KEPT.sum().alias("segments_kept"),
            _HOURS,
            (pl.col("duration_s").filter(_IS_KEPT).sum() / 3600).alias("hours_kept"),
        )
        .sort(["hours", "language"], descending=[True, False])
    )


def _by_reason(segments: pl.LazyFrame) -> pl.LazyFrame:
    alone = pl.col("duration_s").filter(pl.col("::alone")).sum() / 3600
    return (
        segments.filter(~_IS_KEPT)
        .with_columns((pl.col("reasons").list.len() == 1).alias("::alone"))
        .explode("reasons")
        .group_by(pl.col("reasons").alias("reason"))
        .agg(pl.len().alias("segments"), _HOURS, alone.alias("hours_alone"))
        .sort(["hours", "reason"], descending=[True, False])
    )

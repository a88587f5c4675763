"""What a selection keeps and loses, by language and by reason; and why one segment got its verdict."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from validation.analysis.selection.verdicts import reasons_of
from validation.errors import BadInput
from validation.scoring.verdict import Condition, Decision, Rules

_HOURS = (pl.col("duration_s").sum() / 3600).alias("hours")
ACCEPTED = "nothing: it is accepted"
"""The reason given for accepted segments that the selection does not keep."""


@dataclass(frozen=True, slots=True)
class LanguageSummary:
    """What a selection keeps of a language. Segments that could not be decoded have no hours."""

    language: str
    segments: int
    segments_kept: int
    hours: float
    hours_kept: float


@dataclass(frozen=True, slots=True)
class ReasonSummary:
    """What a selection loses to a reason of a verdict that it does not keep; a segment counts for each reason."""

    reason: str
    segments: int
    hours: float
    hours_alone: float
    """Of segments that would be kept without this reason: what lifting it would win."""


@dataclass(frozen=True, slots=True)
class VerdictSummary:
    """The segments with one verdict. Each segment counts once."""

    verdict: str
    segments: int
    hours: float


@dataclass(frozen=True, slots=True)
class SelectionSummary:
    """What a selection keeps and loses."""

    languages: Sequence[LanguageSummary]
    """Most hours first."""
    reasons: Sequence[ReasonSummary]
    """Most hours first."""
    verdicts: Sequence[VerdictSummary]
    """In alphabetical order."""
    changed: int | None
    """Segments whose verdict differs from the stored one; None if none is stored because revisions were joined."""


def summarize_selection(segments: pl.LazyFrame, rules: Rules, keep: Collection[Decision]) -> SelectionSummary:
    """Count what is kept and lost. Only the columns that the rules and the counts need are read.

    Args:
        segments: from ``apply_rules``, by ``rules``.
        rules: the rules of the verdicts.
        keep: the verdicts to keep.
    """
    has_stored = "stored_verdict" in segments.collect_schema()
    differs = pl.col("stored_verdict") != pl.col("verdict") if has_stored else pl.lit(value=False)
    by_verdict = segments.group_by("verdict").agg(pl.len().alias("segments"), _HOURS).sort("verdict")
    languages, reasons, verdicts, changes = pl.collect_all(
        [
            _by_language(segments, keep),
            count_reasons(segments, rules, keep),
            by_verdict,
            segments.select(differs.sum()),
        ],
        engine="streaming",
    )
    return SelectionSummary(
        languages=[LanguageSummary(**row) for row in languages.iter_rows(named=True)],
        reasons=[ReasonSummary(**row) for row in reasons.iter_rows(named=True)],
        verdicts=[VerdictSummary(**row) for row in verdicts.iter_rows(named=True)],
        changed=changes.item() if has_stored else None,
    )


def describe_selection(summary: SelectionSummary, keep: Collection[Decision]) -> str:
    """One sentence: how many segments are kept, and how many are dropped by which verdict."""
    total = sum(row.segments for row in summary.verdicts)
    kept = [row for row in summary.verdicts if row.verdict in keep]
    dropped = ", ".join(f"{row.segments:,} {row.verdict}" for row in summary.verdicts if row.verdict not in keep)
    return (
        f"kept {sum(row.segments for row in kept):,} of {total:,} segments "
        f"({sum(row.hours for row in kept):,.2f} h); dropped: {dropped or 'none'}"
    )


def _by_language(segments: pl.LazyFrame, keep: Collection[Decision]) -> pl.LazyFrame:
    is_kept = pl.col("verdict").is_in(list(keep))
    return (
        segments.group_by(pl.coalesce("language_code", "language", pl.lit("unknown")).alias("language"))
        .agg(
            pl.len().alias("segments"),
            is_kept.sum().alias("segments_kept"),
            _HOURS,
            (pl.col("duration_s").filter(is_kept).sum() / 3600).alias("hours_kept"),
        )
        .sort(["hours", "language"], descending=[True, False])
    )


def count_reasons(segments: pl.LazyFrame, rules: Rules, keep: Collection[Decision]) -> pl.LazyFrame:
    """Plan the rows of ``ReasonSummary``; the arguments are those of ``summarize_selection``."""
    against = [rule for rule in rules.effective if rule.verdict not in keep]
    reasons = reasons_of(against) if against else pl.lit([], pl.List(pl.String))
    only_one = pl.col("against").list.len() == 1
    is_left_with_one = pl.lit("accept" in keep) | (pl.col("reasons").list.set_difference("against").list.len() > 0)
    alone = pl.col("duration_s").filter(pl.col("::alone")).sum() / 3600
    return (
        segments.filter(~pl.col("verdict").is_in(list(keep)))
        .select("duration_s", "reasons", reasons.alias("against"))
        .with_columns((only_one & is_left_with_one).alias("::alone"))
        .explode("against", empty_as_null=True)
        .group_by(pl.col("against").fill_null(ACCEPTED).alias("reason"))
        .agg(pl.len().alias("segments"), _HOURS, alone.alias("hours_alone"))
        .sort(["hours", "reason"], descending=[True, False])
    )


def find_segment(segments: pl.LazyFrame, name: str) -> Mapping[str, Any]:
    """Fetch one segment; of the shards only the row groups of its video are read.

    Args:
        segments: from ``apply_rules``.
        name: ``VIDEO/SEGMENT``, the segment by its name or by its index.

    Raises:
        BadInput: there is no such segment; the message says what the video has, if anything.
    """
    video_id, _, segment = name.partition("/")
    rows = segments.filter(pl.col("video_id") == video_id).sort("segment_index").collect(engine="streaming")
    for row in rows.iter_rows(named=True):
        if segment in {row["segment"], str(row["segment_index"])}:
            return row
    if rows.is_empty():
        raise BadInput(f"no committed shard holds video {video_id!r}: write VIDEO/SEGMENT")
    names = ", ".join(rows["segment"].head(3))
    raise BadInput(f"video {video_id} has no segment {segment!r}: it has {len(rows)}, from 0, named {names}, ...")


def explain_verdict(row: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    """Lines with the verdict, every rule that fired with its values, and the signals that rules read."""
    yield f"{row['video_id']}/{row['segment']} (segment {row['segment_index']}): {row['verdict']} by {rules.version}"
    if row.get("stored_verdict") not in {None, row["verdict"]}:
        yield f"  when it was written: {row['stored_verdict']}"
    fired = [rule for rule in rules.effective if rule.matches(row)]
    for rule in fired:
        yield f"  {rule.verdict}, {rule.reason}: {rule.sentence}"
        yield from (f"    {_format_condition(condition, row)}" for condition in rule.when)
    yield f"  {len(rules.effective) - len(fired)} other rules do not fire"
    for name in sorted(rules.columns):
        yield f"    {name} = {row[name]!r}"
    yield f"  text: {row['text']}"


def _format_condition(condition: Condition, row: Mapping[str, Any]) -> str:
    limit = "" if condition.value is None else f" {condition.value!r}"
    return f"{condition.column} {condition.op}{limit}: it is {row[condition.column]!r}"

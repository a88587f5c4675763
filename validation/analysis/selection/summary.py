"""Summarize a selection by language, verdict and reason; explain the verdict of one segment."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from validation.analysis.selection.verdicts import LANGUAGE_GROUP, fired_words, read_fired
from validation.errors import BadInput
from validation.scoring.verdict import Condition, Decision, Rules

_SEGMENTS = pl.col("segments").sum()
_HOURS = (pl.col("seconds").sum() / 3600).alias("hours")
MANY_REVIEWS = 0.2
"""Share of a language's hours in review from which on the summary says why."""
ACCEPTED = "nothing: it is accepted"
"""The reason of the summary for dropped segments that are accepted, if only other verdicts are kept."""


@dataclass(frozen=True, slots=True)
class LanguageSummary:
    """Number and hours of a language's segments, in total and kept. Segments that were not decoded add no hours."""

    language: str
    segments: int
    segments_kept: int
    hours: float
    hours_kept: float


@dataclass(frozen=True, slots=True)
class ReasonSummary:
    """Number and hours of the dropped segments with one reason. A segment with several reasons counts for each."""

    reason: str
    segments: int
    hours: float
    hours_alone: float
    """Hours of the segments that would be kept if the rules with this reason were removed."""


@dataclass(frozen=True, slots=True)
class RuleSummary:
    """Number and hours of the segments for which one rule fires. Other rules may fire for the same segments."""

    reason: str
    verdict: str
    sentence: str
    segments: int
    hours: float


@dataclass(frozen=True, slots=True)
class VerdictSummary:
    """Number and hours of the segments with one verdict."""

    verdict: str
    segments: int
    hours: float


@dataclass(frozen=True, slots=True)
class ReviewSummary:
    """Why much of a language is in review: the rule that fires for the most hours of its segments in review."""

    language: str
    share: float
    """Share of the language's hours whose verdict is review."""
    reason: str
    sentence: str
    share_of_reason: float
    """Share of the reviewed hours for which the rule fires."""


@dataclass(frozen=True, slots=True)
class SelectionSummary:
    """Kept and dropped segments of a selection, by language, reason and verdict."""

    languages: Sequence[LanguageSummary]
    """Sorted by descending hours."""
    reasons: Sequence[ReasonSummary]
    """Sorted by descending hours."""
    verdicts: Sequence[VerdictSummary]
    """Sorted alphabetically by verdict."""
    reviews: Sequence[ReviewSummary]
    """The languages of which at least ``MANY_REVIEWS`` of the hours are for review, in the order of ``languages``."""
    changed: int | None
    """Number of segments whose verdict differs from the stored verdict.

    None if the segments have no stored verdicts, because several revisions were joined.
    """


def summarize_selection(segments: pl.LazyFrame, rules: Rules, keep: Collection[Decision]) -> SelectionSummary:
    """Count the kept and dropped segments. Only the columns that the rules and the counts need are read.

    Args:
        segments: the result of ``apply_rules`` with ``rules``.
        rules: the rules that gave the verdicts.
        keep: the verdicts to keep.
    """
    counts = count_fired(segments, rules).collect(engine="streaming")
    languages = _by_language(counts, keep)
    return SelectionSummary(
        languages=languages,
        reasons=summarize_reasons(counts, rules, keep),
        verdicts=[
            VerdictSummary(**row)
            for row in counts.group_by("verdict").agg(_SEGMENTS, _HOURS).sort("verdict").iter_rows(named=True)
        ],
        reviews=[found for row in languages if (found := _explain_reviews(counts, rules, row.language)) is not None],
        changed=int(counts["changed"].sum()) if "stored_verdict" in segments.collect_schema() else None,
    )


def describe_selection(summary: SelectionSummary, keep: Collection[Decision]) -> str:
    """Return one sentence with the number of kept segments, and the number of dropped segments per verdict."""
    total = sum(row.segments for row in summary.verdicts)
    kept = [row for row in summary.verdicts if row.verdict in keep]
    dropped = ", ".join(f"{row.segments:,} {row.verdict}" for row in summary.verdicts if row.verdict not in keep)
    return (
        f"kept {sum(row.segments for row in kept):,} of {total:,} segments "
        f"({sum(row.hours for row in kept):,.2f} h); dropped: {dropped or 'none'}"
    )


def count_fired(segments: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Count segments and their seconds per combination of language, verdict and firing rules (``fired_words``).

    Args:
        segments: the result of ``apply_rules`` with ``rules``.
        rules: the rules that gave the verdicts.

    Returns:
        The columns ``language, verdict, ::fired0, ..., segments, seconds, changed``. ``changed`` is the number of
        segments whose verdict differs from the stored verdict.
    """
    has_stored = "stored_verdict" in segments.collect_schema()
    differs = pl.col("stored_verdict") != pl.col("verdict") if has_stored else pl.lit(value=False)
    return segments.group_by(LANGUAGE_GROUP.alias("language"), "verdict", *fired_words(rules.effective)).agg(
        pl.len().cast(pl.Int64).alias("segments"),
        pl.col("duration_s").sum().alias("seconds"),
        differs.sum().cast(pl.Int64).alias("changed"),
    )


def summarize_reasons(counts: pl.DataFrame, rules: Rules, keep: Collection[Decision]) -> list[ReasonSummary]:
    """Summarize the dropped segments per reason, sorted by descending hours.

    Args:
        counts: the result of ``count_fired`` with ``rules``.
        rules: the rules that gave the verdicts.
        keep: the verdicts to keep.
    """
    lost: dict[str, list[float]] = {}
    words = [name for name in counts.columns if name.startswith("::fired")]
    dropped = counts.filter(~pl.col("verdict").is_in(list(keep)))
    for segments, seconds, *fired in dropped.sort("verdict", *words).select("segments", "seconds", *words).iter_rows():
        rules_fired = read_fired(fired, rules.effective)
        against = {rule.reason: None for rule in rules_fired if rule.verdict not in keep}
        others = {rule.reason for rule in rules_fired} - set(against)
        is_alone = len(against) == 1 and ("accept" in keep or bool(others))
        for reason in against or [ACCEPTED]:
            totals = lost.setdefault(reason, [0, 0.0, 0.0])
            totals[0] += segments
            totals[1] += seconds
            totals[2] += seconds if is_alone else 0.0
    rows = [
        ReasonSummary(reason, int(segments), seconds / 3600, alone / 3600)
        for reason, (segments, seconds, alone) in lost.items()
    ]
    return sorted(rows, key=lambda row: (-row.hours, row.reason))


def summarize_rules(counts: pl.DataFrame, rules: Rules) -> list[RuleSummary]:
    """Summarize the segments per rule, sorted by descending hours. Rules that never fire are left out.

    The arguments are those of ``summarize_reasons``.
    """
    words = [name for name in counts.columns if name.startswith("::fired")]
    found: dict[int, list[float]] = {}
    for segments, seconds, *fired in counts.sort("verdict", *words).select("segments", "seconds", *words).iter_rows():
        for rule in read_fired(fired, range(len(rules.effective))):
            totals = found.setdefault(rule, [0, 0.0])
            totals[0] += segments
            totals[1] += seconds
    named = [(rules.effective[place], totals) for place, totals in found.items()]
    rows = [RuleSummary(rule.reason, rule.verdict, rule.sentence, int(n), s / 3600) for rule, (n, s) in named]
    return sorted(rows, key=lambda row: (-row.hours, row.reason, row.sentence))


def _explain_reviews(counts: pl.DataFrame, rules: Rules, language: str) -> ReviewSummary | None:
    """Return why a language is in review; None if less than ``MANY_REVIEWS`` of its hours are."""
    own = counts.filter(pl.col("language") == language)
    reviewed = own.filter(pl.col("verdict") == "review")
    seconds, of_all = float(reviewed["seconds"].sum()), float(own["seconds"].sum())
    if not seconds or seconds < MANY_REVIEWS * of_all:
        return None
    rule = summarize_rules(reviewed, rules)[0]
    return ReviewSummary(language, seconds / of_all, rule.reason, rule.sentence, rule.hours * 3600 / seconds)


def _by_language(counts: pl.DataFrame, keep: Collection[Decision]) -> list[LanguageSummary]:
    is_kept = pl.col("verdict").is_in(list(keep))
    found = (
        counts.group_by("language")
        .agg(
            _SEGMENTS,
            pl.col("segments").filter(is_kept).sum().alias("segments_kept"),
            _HOURS,
            (pl.col("seconds").filter(is_kept).sum() / 3600).alias("hours_kept"),
        )
        .sort(["hours", "language"], descending=[True, False])
    )
    return [LanguageSummary(**row) for row in found.iter_rows(named=True)]


def find_segment(segments: pl.LazyFrame, name: str) -> Mapping[str, Any]:
    """Fetch one segment as a row. Only the row groups of the segment's video are read.

    Args:
        segments: the result of ``apply_rules``.
        name: ``VIDEO/SEGMENT``, where SEGMENT is the name or the index of the segment.

    Raises:
        BadInput: the segment does not exist. The message lists segments of the video, if the video exists.
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
    """Yield lines of text that explain a verdict.

    The lines show the verdict, the stored transcript, the models' transcripts, the rules that fire with their
    conditions, and every signal that a rule reads.
    """
    yield f"{row['video_id']}/{row['segment']} (segment {row['segment_index']}): {row['verdict']} by {rules.version}"
    if row.get("stored_verdict") not in {None, row["verdict"]}:
        yield f"  when it was written: {row['stored_verdict']}"
    yield f"  text: {row['text']}"
    for name, heard in row.items():
        if name.endswith("_text"):
            yield f"  {name.removesuffix('_text')} heard: {'nothing' if heard is None else heard}"
    fired = [rule for rule in rules.effective if rule.matches(row)]
    for rule in fired:
        yield f"  {rule.verdict}, {rule.reason}: {rule.sentence}"
        yield from (f"    {_format_condition(condition, row)}" for condition in rule.when)
    yield f"  {len(rules.effective) - len(fired)} other rules do not fire"
    for name in sorted(rules.columns):
        yield f"    {name} = {row[name]!r}"


def _format_condition(condition: Condition, row: Mapping[str, Any]) -> str:
    limit = "" if condition.value is None else f" {condition.value!r}"
    return f"{condition.column} {condition.op}{limit}: it is {row[condition.column]!r}"

"""The queries of the report. A query runs on one part of the segments at a time; its results are joined afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import polars as pl

from validation.analysis.report.rule_margin import MARGIN, rule_margin, rules_by_reason
from validation.analysis.report.signals import VERDICTS, Signal
from validation.analysis.selection.summary import count_fired
from validation.analysis.selection.verdicts import LANGUAGE_GROUP, fired_words, matches_declared_language
from validation.scoring.verdict import Rule, Rules

_LANGUAGE = LANGUAGE_GROUP.alias("language")
_ROW = "::row"
"""Name of a column with the index of a row in its part."""
Join: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Query:
    """A query that runs on parts of the segments, and a function that joins the results of the parts."""

    plan: Callable[[pl.LazyFrame], pl.LazyFrame]
    join: Join
    """Takes the concatenated results of several parts and returns one result."""
    complete: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame] = lambda _part, answer: answer
    """Takes a part and the answer of the plan, and returns the result of the part."""


def report_queries(
    names: Sequence[str], rules: Rules, signals: Sequence[Signal], *, worst_per_reason: int, borderline: int
) -> dict[str, Query]:
    """Return the queries for segments with the columns ``names``. ``Findings`` describes the results."""
    models = lid_models(names)
    by_name = {signal.name: signal for signal in signals}
    fired = [word.meta.output_name() for word in fired_words(rules.effective)]
    return {
        "languages": Query(_by_language, _sum_by("language")),
        "reasons": Query(lambda rows: count_fired(rows, rules), _sum_by("language", "verdict", *fired)),
        **{f"votes {model}": Query(_lid_votes(model), _sum_by("language", "model")) for model in models},
        **{
            f"confusions {model}": Query(_confusions(model), _sum_by("model", "declared", "predicted"))
            for model in models
        },
        **{
            f"pair {one} {other}": Query(_lid_pair(one, other), _sum_by("one", "other"))
            for one, other in combinations(models, 2)
        },
        **{
            f"worst {reason}": _worst(reason, grouped, by_name, worst_per_reason)
            for reason, grouped in rules_by_reason(rules).items()
        },
        "borderline": _nearest(rules.effective, by_name, borderline),
    }


def lid_models(names: Sequence[str]) -> list[str]:
    """Return the LID models: those with a probability of the declared language and with a predicted language."""
    models = [name.removesuffix("_declared_p") for name in names if name.endswith("_declared_p")]
    return [model for model in models if f"{model}_language" in names]


def _sum_by(*keys: str) -> Join:
    """Return a function that joins results by adding up the rows with equal ``keys``."""
    return lambda answers: answers.group_by(keys, maintain_order=True).agg(pl.all().sum())


def _by_language(segments: pl.LazyFrame) -> pl.LazyFrame:
    hours = pl.col("duration_s").sum() / 3600
    counts = [(pl.col("verdict") == verdict).sum().cast(pl.Int64).alias(verdict) for verdict in VERDICTS]
    hours_by_verdict = [
        (pl.col("duration_s").filter(pl.col("verdict") == verdict).sum() / 3600).alias(f"{verdict}_hours")
        for verdict in VERDICTS
    ]
    return segments.group_by(_LANGUAGE).agg(
        pl.len().cast(pl.Int64).alias("segments"), hours.alias("hours"), *counts, *hours_by_verdict
    )


def _lid_votes(model: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Plan the votes of a LID model, counted per language.

    A model that does not know the declared language ``abstains``. A model whose answer is a fault is ``unscored``.
    """
    unscored = pl.col(f"{model}_fault").is_not_null()
    abstains = ~unscored & pl.col(f"{model}_declared_p").is_null()
    matches = matches_declared_language(model)
    voted = ~unscored & ~abstains
    votes = {"agrees": voted & matches, "differs": voted & ~matches, "abstains": abstains, "unscored": unscored}
    counts = [vote.fill_null(value=False).sum().cast(pl.Int64).alias(name) for name, vote in votes.items()]
    return lambda segments: segments.group_by(_LANGUAGE, pl.lit(model).alias("model")).agg(counts)


def _confusions(model: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Plan the counts of segments per declared language and other predicted language."""
    predicted = pl.col(f"{model}_language")
    differs = pl.col(f"{model}_declared_p").is_not_null() & ~matches_declared_language(model)
    keys = (pl.lit(model).alias("model"), pl.col("language_code").alias("declared"), predicted.alias("predicted"))
    return lambda segments: segments.filter(differs).group_by(keys).agg(pl.len().cast(pl.Int64).alias("count"))


def _lid_pair(one: str, other: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Plan the counts ``both`` and ``same`` of two LID models, as ``Findings.lid_pairs`` describes them."""
    a, b = pl.col(f"{one}_language"), pl.col(f"{other}_language")
    both = a.is_not_null() & b.is_not_null()
    counts = {"both": both, "same": both & (a == b)}
    return lambda segments: segments.select(
        pl.lit(one).alias("one"),
        pl.lit(other).alias("other"),
        *(found.fill_null(value=False).sum().cast(pl.Int64).alias(name) for name, found in counts.items()),
    )


def _worst(reason: str, rules: Sequence[Rule], signals: Mapping[str, Signal], count: int) -> Query:
    """Find the ``count`` decoded segments with the largest margins to ``rules``, whose first reason is ``reason``.

    First comes one segment per video, then a second one, and so on: the worst segments of one video often have the same
    fault.
    """
    has_reason = pl.col("fault").is_null() & (pl.col("reasons").list.get(0, null_on_oob=True) == reason)
    place_in_video = pl.int_range(pl.len()).over("video_id", order_by=[-pl.col(MARGIN), "segment_index"])

    def pick(found: pl.LazyFrame) -> pl.LazyFrame:
        order = [place_in_video, -pl.col(MARGIN), "video_id", "segment_index"]
        return found.sort(order).head(count)

    return _find_few(has_reason, rule_margin(rules, signals), pick)


def _nearest(rules: Sequence[Rule], signals: Mapping[str, Signal], count: int) -> Query:
    """Find the ``count`` decoded segments with the smallest absolute margins. Infinite margins are left out."""
    margin = rule_margin(rules, signals)
    is_shown = pl.col("fault").is_null() & margin.is_finite()
    return _find_few(
        is_shown, margin, lambda found: found.sort(pl.col(MARGIN).abs(), "video_id", "segment_index").head(count)
    )


def _find_few(condition: pl.Expr, margin: pl.Expr, pick: Callable[[pl.LazyFrame], pl.LazyFrame]) -> Query:
    """Make a query for a few segments, with every column and their margin.

    Args:
        condition: the segments that may be chosen.
        margin: the expression of the margin.
        pick: chooses among rows with the columns ``MARGIN, video_id, segment_index``. It runs on each part, and again
            on the chosen rows of all parts; the result must be the same as that of one run on all rows.
    """

    def plan(segments: pl.LazyFrame) -> pl.LazyFrame:
        rows = segments.with_row_index(_ROW).filter(condition).select(_ROW, "video_id", "segment_index", margin)
        return pick(rows).select(_ROW, MARGIN)

    return Query(plan, lambda found: pick(found.lazy()).collect(), _take_rows)


def _take_rows(part: pl.DataFrame, few: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a part whose indexes ``few`` holds, with their margins."""
    return part[few[_ROW]].with_columns(few[MARGIN])

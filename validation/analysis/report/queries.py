"""The queries of the report. A query runs on one part of the segments at a time; its results are joined afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import polars as pl

from validation.analysis.report.rule_margin import MARGIN, rule_margin, rules_by_reason
from validation.analysis.report.signals import BINS, VERDICTS, Signal
from validation.analysis.selection.summary import count_fired
from validation.analysis.selection.verdicts import LANGUAGE_GROUP, fired_words, matches_declared_language
from validation.scoring.verdict import Rule, Rules

_LANGUAGE = LANGUAGE_GROUP.alias("language")
Join: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Query:
    """A query that runs on parts of the segments, and a function that joins the results of the parts."""

    plan: Callable[[pl.LazyFrame], pl.LazyFrame]
    join: Join
    """Takes the concatenated results of several parts and returns one result."""


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
        **{
            f"histogram {signal.name}": Query(_histogram(signal), _sum_by("language", "verdict", "bin"))
            for signal in signals
        },
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
            f"worst {reason}": Query(_worst(reason, grouped, by_name), _pick_worst(worst_per_reason))
            for reason, grouped in rules_by_reason(rules).items()
        },
        "borderline": Query(_nearest(rules.effective, by_name), _pick_nearest(borderline)),
    }


def lid_models(names: Sequence[str]) -> list[str]:
    """Return the LID models: those with a probability of the declared language and with a predicted language."""
    models = [name.removesuffix("_declared_p") for name in names if name.endswith("_declared_p")]
    return [model for model in models if f"{model}_language" in names]


def _sum_by(*keys: str) -> Join:
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


def _histogram(signal: Signal) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    position = (pl.col(signal.name).cast(pl.Float64) - signal.low) / (signal.high - signal.low) * BINS
    bin_ = position.floor().clip(0, BINS - 1).cast(pl.Int32).alias("bin")
    return lambda segments: (
        segments.filter(pl.col(signal.name).is_not_null())
        .group_by(_LANGUAGE, "verdict", bin_)
        .agg(pl.len().cast(pl.Int64).alias("count"))
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
    predicted = pl.col(f"{model}_language")
    differs = pl.col(f"{model}_declared_p").is_not_null() & ~matches_declared_language(model)
    keys = (pl.lit(model).alias("model"), pl.col("language_code").alias("declared"), predicted.alias("predicted"))
    return lambda segments: segments.filter(differs).group_by(keys).agg(pl.len().cast(pl.Int64).alias("count"))


def _lid_pair(one: str, other: str) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    a, b = pl.col(f"{one}_language"), pl.col(f"{other}_language")
    both = a.is_not_null() & b.is_not_null()
    counts = {"both": both, "same": both & (a == b)}
    return lambda segments: segments.select(
        pl.lit(one).alias("one"),
        pl.lit(other).alias("other"),
        *(found.fill_null(value=False).sum().cast(pl.Int64).alias(name) for name, found in counts.items()),
    )


def _worst(reason: str, rules: Sequence[Rule], signals: Mapping[str, Signal]) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """Plan the decoded segments whose first reason is ``reason``, with their margin."""
    has_reason = pl.col("fault").is_null() & (pl.col("reasons").list.get(0, null_on_oob=True) == reason)
    return lambda segments: segments.filter(has_reason).with_columns(rule_margin(rules, signals))


def _pick_worst(count: int) -> Join:
    """Keep the ``count`` segments with the largest margin, first one per video, then a second one, and so on.

    The worst segments of one video often have the same fault.
    """
    place_in_video = pl.int_range(pl.len()).over("video_id")
    return lambda found: (
        found.sort(MARGIN, "video_id", "segment_index", descending=[True, False, False])
        .sort(place_in_video, maintain_order=True)
        .head(count)
    )


def _nearest(rules: Sequence[Rule], signals: Mapping[str, Signal]) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    is_shown = pl.col("fault").is_null() & pl.col(MARGIN).is_finite()
    return lambda segments: segments.with_columns(rule_margin(rules, signals)).filter(is_shown)


def _pick_nearest(count: int) -> Join:
    return lambda found: found.sort(pl.col(MARGIN).abs(), "video_id", "segment_index").head(count)

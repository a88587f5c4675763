"""Limits by language: quantiles of a language's own segments, from committed shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from validation.scoring.romanised import compare_romanised, romanise
from validation.scoring.verdict import LANGUAGE, Condition, Rule, Rules

MIN_SEGMENTS = 200
"""Segments of a language without which it keeps the common limit: a quantile of 2 % is then four segments."""
BY_LANGUAGE = ("_align_tok", "_align_min", "_align_stretch", "_greedy_lp", "_greedy_tok", "roman_cer", "chars_per_s")
"""Endings of the columns whose distribution depends on the language. Limits of the audio hold for all."""


@dataclass(frozen=True, slots=True)
class LanguageLimit:
    """A limit of one language for a condition of a rule."""

    place: int
    """Index of the rule in the file."""
    condition: Condition
    language: str
    limit: float
    segments: int
    found_swapped: float | None
    """Share of other segments' transcripts that the limit finds; None for columns that need the models to know it."""


def propose_language_limits(
    segments: pl.DataFrame, rules: Rules, *, share: float, min_segments: int = MIN_SEGMENTS
) -> Iterator[LanguageLimit]:
    """Propose the limit beyond which a share of each language's segments lies, for each rule of one such condition.

    The share is a quantile of the language's own segments, as OWSM v4 filters its corpus: a language that the
    recogniser knows badly is not judged by the limit of one that it knows well. A review limit is never laxer than the
    reject limit of the same column and reason, so what is rejected would also have been reviewed. Languages of fewer
    than ``min_segments`` have no proposal and keep the common limit.

    Args:
        segments: decoded segments with the columns of a shard.
        rules: the present rules.
        share: of each language's segments that one rule may send to review.
        min_segments: see above.
    """
    for place, rule in enumerate(rules.rules):
        if rule.verdict == "reject" or len(rule.when) != 1 or not _depends_on_language(rule.when[0], segments):
            continue
        (condition,) = rule.when
        is_low = condition.op[0] == "<"
        known = segments.filter(pl.col(condition.column).is_not_null(), pl.col(LANGUAGE).is_not_null())
        for (language,), own in known.sort(LANGUAGE).group_by(LANGUAGE, maintain_order=True):
            if len(own) < min_segments:
                continue
            quantile = own[condition.column].quantile(share if is_low else 1 - share, "linear")
            limit = _keep_reject_within(float(quantile or 0.0), rule, condition, rules, str(language))
            found = _found_swapped(own, str(language), limit) if condition.column == "roman_cer" else None
            yield LanguageLimit(place, condition, str(language), round(limit, 3), len(own), found)


def apply_language_limits(rules: Rules, limits: Sequence[LanguageLimit], version: str) -> Rules:
    """The rules with the limits by language added, under a new version."""
    changed = list(rules.rules)
    for place in dict.fromkeys(each.place for each in limits):
        rule, own = changed[place], {each.language: each.limit for each in limits if each.place == place}
        changed[place] = rule.model_copy(update={"when": (_with_limits(rule.when[0], own),)})
    return rules.with_rules(changed, version)


def _with_limits(condition: Condition, limits: Mapping[str, float]) -> Condition:
    return Condition(
        column=condition.column,
        op=condition.op,
        value=condition.value,
        by_language=tuple(sorted((dict(condition.by_language) | dict(limits)).items())),
    )


def _depends_on_language(condition: Condition, segments: pl.DataFrame) -> bool:
    column = condition.column
    return condition.is_ordered and column in segments.columns and column.endswith(BY_LANGUAGE)


def _keep_reject_within(limit: float, rule: Rule, condition: Condition, rules: Rules, language: str) -> float:
    """Move a review limit so far that it includes everything that a reject rule of the same reason finds."""
    rejecting = [
        float(other.limit_for(language) or 0)
        for each in rules.rules
        if each.verdict == "reject" and each.reason == rule.reason
        for other in each.when
        if other.column == condition.column and other.op == condition.op
    ]
    return max([limit, *rejecting]) if condition.op[0] == "<" else min([limit, *rejecting])


def _found_swapped(own: pl.DataFrame, language: str, limit: float) -> float:
    """Plant the transcript of each segment in the next one: the share with a romanised error rate beyond a limit."""
    heard_column = next(name for name in own.columns if name.endswith("_text") and name != "language_text")
    stored = own["text"].to_list()
    heard = own[heard_column].to_list()
    pairs = zip([*stored[1:], stored[0]], heard, strict=True)
    rates = [
        agreement.cer
        for text, recognised in pairs
        if recognised is not None
        and (agreement := compare_romanised(romanise(text, language), romanise(recognised, language))) is not None
    ]
    return sum(rate >= limit for rate in rates) / len(rates) if rates else 0.0

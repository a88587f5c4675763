"""Propose limits by language for verdict rules, from quantiles of the decoded segments of each language.

Values are counted in bins, and only the values of the bin of a quantile are kept, so that memory hardly grows with the
number of segments.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import polars as pl

from validation.scoring.features import compare_romanised, romanise
from validation.scoring.verdict import LANGUAGE, Condition, Rule, Rules

MIN_SEGMENTS = 200
"""Minimum number of segments of a language for a limit of its own. 2 % of 200 segments are four segments."""
BIN = 0.01
"""Width of the bins in which values are counted."""
MAX_BIN = 100_000
"""Bins are numbered from ``-MAX_BIN`` to ``MAX_BIN``. The first and the last bin also hold all values beyond them."""
MAX_SWAPPED = 5000
"""Maximum number of segments per language whose transcripts are swapped. It makes the standard error of a share less
than 0.01."""
BY_LANGUAGE = ("_align_tok", "_align_min", "_align_stretch", "_greedy_lp", "_greedy_tok", "roman_cer", "chars_per_s")
"""Suffixes of the columns whose distribution depends on the language. Other limits are common to all languages."""


@dataclass(frozen=True, slots=True)
class LanguageLimit:
    """The proposed limit of one language for a condition of a rule."""

    place: int
    """Index of the rule in the file."""
    condition: Condition
    language: str
    limit: float
    segments: int
    """Number of segments of the language that have a value of the column."""
    found_swapped: float | None
    """Share of swapped transcripts that the limit finds. The share is computed only for ``roman_cer``. For other
    columns it is None, because the models would have to score the swapped transcripts."""


def propose_language_limits(
    segments: pl.DataFrame | pl.LazyFrame, rules: Rules, *, share: float, min_segments: int = MIN_SEGMENTS
) -> Iterator[LanguageLimit]:
    """Propose a limit per language for each condition of ``list_conditions``.

    The limit is a quantile of the language's own segments, as in the filter of the OWSM v4 corpus. So a language on
    which the recogniser is weak does not get the limit of a language on which it is strong. A review limit is at least
    as strict as the reject limit of the same column, operator and reason. Limits have three decimals. Languages with
    fewer than ``min_segments`` values of the column have no proposal and keep their present limit.

    Args:
        segments: decoded segments with the columns of a shard. Only two or three columns are read at a time.
        rules: the present rules.
        share: the share of each language's segments that one rule may send to review.
        min_segments: the minimum number of segments of a language that have a value of the column.
    """
    rows = segments.lazy()
    names = rows.collect_schema().names()
    for place, condition in list_conditions(rules, names):
        rule = rules.rules[place]
        quantiles = find_quantiles(rows, condition.column, share if condition.op[0] == "<" else 1 - share)
        limits = {
            language: _keep_reject_within(found, rule, condition, rules, language)
            for language, (count, found) in quantiles.items()
            if count >= min_segments
        }
        swapped = _measure_found_swapped(rows, names, limits) if condition.column == "roman_cer" else {}
        for language, limit in limits.items():
            count = quantiles[language][0]
            yield LanguageLimit(place, condition, language, round(limit, 3), count, swapped.get(language))


def list_conditions(rules: Rules, names: Collection[str]) -> Iterator[tuple[int, Condition]]:
    """Yield the conditions that may have limits by language, each with the index of its rule.

    Such a condition is the only condition of a review rule. It compares a column of ``BY_LANGUAGE``, which is among
    ``names``, with a limit.
    """
    for place, rule in enumerate(rules.rules):
        if rule.verdict != "reject" and len(rule.when) == 1 and _depends_on_language(rule.when[0], names):
            yield place, rule.when[0]


def find_quantiles(rows: pl.LazyFrame, column: str, quantile: float) -> dict[str, tuple[int, float]]:
    """Return per language the number of values of a column, and their ``quantile`` (0 to 1) by linear interpolation.

    The rows are read twice: first to count the values per bin, then to collect the values of the bins of the quantile.
    """
    value, place = pl.col(column), "::place"
    known = rows.filter(value.is_not_null(), pl.col(LANGUAGE).is_not_null()).select(
        LANGUAGE, column, (value / BIN).floor().clip(-MAX_BIN, MAX_BIN).cast(pl.Int64).alias(place)
    )
    counts = known.group_by(LANGUAGE, place).agg(pl.len().cast(pl.Int64)).collect(engine="streaming")
    ends = counts.sort(LANGUAGE, place).with_columns(end=pl.col("len").cum_sum().over(LANGUAGE))
    ends = ends.with_columns(total=pl.col("end").max().over(LANGUAGE))
    ends = ends.with_columns(rank=(pl.col("total") - 1) * quantile)
    chosen = ends.filter(pl.col("end") > pl.col("rank").floor()).filter(
        pl.col("end") - pl.col("len") <= pl.col("rank").ceil()
    )
    near = known.join(chosen.select(LANGUAGE, place).lazy(), on=[LANGUAGE, place], how="semi")
    values = near.select(LANGUAGE, column).collect(engine="streaming").sort(LANGUAGE, column)
    by_language = {language: found[column] for (language,), found in values.group_by(LANGUAGE)}
    quantiles = {}
    for (language,), bins in chosen.group_by(LANGUAGE, maintain_order=True):
        rank, skipped = bins["rank"][0], bins["end"][0] - bins["len"][0]
        low, high = (by_language[language][at - skipped] for at in (floor(rank), ceil(rank)))
        quantiles[str(language)] = (bins["total"][0], float(low + (high - low) * (rank % 1)))
    return quantiles


def apply_language_limits(rules: Rules, limits: Sequence[LanguageLimit], version: str) -> Rules:
    """Return the rules with the limits by language added, under a new version."""
    changed = list(rules.rules)
    for place in dict.fromkeys(each.place for each in limits):
        rule, own = changed[place], {each.language: each.limit for each in limits if each.place == place}
        changed[place] = rule.model_copy(update={"when": (_with_limits(rule.when[0], own),)})
    return rules.with_rules(changed, version)


def _with_limits(condition: Condition, limits: Mapping[str, float]) -> Condition:
    """Return the condition with these limits by language. A limit replaces the condition's limit of the language."""
    return Condition(
        column=condition.column,
        op=condition.op,
        value=condition.value,
        by_language=tuple(sorted((dict(condition.by_language) | dict(limits)).items())),
    )


def _depends_on_language(condition: Condition, names: Collection[str]) -> bool:
    """Return whether a condition may have limits by language."""
    column = condition.column
    return condition.is_ordered and column in names and column.endswith(BY_LANGUAGE)


def _keep_reject_within(limit: float, rule: Rule, condition: Condition, rules: Rules, language: str) -> float:
    """Return the stricter of a review limit and the reject limits of the same column, operator and reason."""
    rejecting = [
        float(other.limit_for(language) or 0)
        for each in rules.rules
        if each.verdict == "reject" and each.reason == rule.reason
        for other in each.when
        if other.column == condition.column and other.op == condition.op
    ]
    return max([limit, *rejecting]) if condition.op[0] == "<" else min([limit, *rejecting])


def _measure_found_swapped(rows: pl.LazyFrame, names: Sequence[str], limits: Mapping[str, float]) -> dict[str, float]:
    """Return per language the share of wrong transcripts whose romanised character error rate is at least its limit.

    The recognised text of each segment is compared with the stored transcript of the next segment of the language. Only
    the first ``MAX_SWAPPED`` segments of a language are used.
    """
    heard = next(name for name in names if name.endswith("_text") and name != "language_text")
    known = rows.filter(pl.col("roman_cer").is_not_null(), pl.col(LANGUAGE).is_in(list(limits)))
    found: dict[str, list[tuple[str, str | None]]] = {language: [] for language in limits}
    for batch in known.select(LANGUAGE, "text", heard).collect_batches(engine="streaming", maintain_order=True):
        for (language,), texts in batch.group_by(LANGUAGE):
            kept = found[str(language)]
            kept.extend(texts.head(MAX_SWAPPED - len(kept)).select("text", heard).iter_rows())
        if all(len(kept) == MAX_SWAPPED for kept in found.values()):
            break
    return {language: _share_above(kept, language, limits[language]) for language, kept in found.items()}


def _share_above(texts: Sequence[tuple[str, str | None]], language: str, limit: float) -> float:
    """Return the share of the pairs of a heard text and the next stored text whose error rate is at least ``limit``.

    Pairs without a heard text or without letters in the stored text do not count. The share is 0 if no pair counts.
    """
    following = [*texts[1:], *texts[:1]]
    rates = [
        agreement.cer
        for (text, _), (_, heard) in zip(following, texts, strict=True)
        if heard is not None
        and (agreement := compare_romanised(romanise(text, language), romanise(heard, language))) is not None
    ]
    return sum(rate >= limit for rate in rates) / len(rates) if rates else 0.0

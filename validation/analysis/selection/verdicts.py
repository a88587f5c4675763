"""Verdict rules as polars expressions: the result of ``Rules.evaluate`` for all segments at once."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import TypeVar

import polars as pl

from validation.domain import ColumnType
from validation.scoring.rules_io import check_columns
from validation.scoring.verdict import LANGUAGE, MAX_MARGIN, Condition, Decision, Rule, Rules

VERDICT_COLUMNS = ("verdict", "reasons", "margin", "stored_verdict")
"""The columns that rules write and may not read, because verdicts are computed again."""
RuleT = TypeVar("RuleT")
WORD_BITS = 64
"""Rules that have a bit in one column."""
_TYPES: dict[type[pl.DataType], ColumnType] = {
    pl.Float64: "float",
    pl.Int64: "int",
    pl.String: "str",
    pl.Boolean: "bool",
}


def apply_rules(segments: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Replace the stored verdict, reasons and margin by those of the rules; only the schema is read.

    The stored verdict, if there is one, moves to ``stored_verdict``.

    The result equals ``Rules.evaluate`` for every row, missing values and the order of reasons included: rows that were
    written with the same rules do not change.

    Raises:
        BadRules: a rule reads a column that the segments do not have; the message names the nearest one.
    """
    check_columns(rules, rule_columns(segments))
    if "verdict" in segments.collect_schema():
        segments = segments.with_columns(stored_verdict="verdict")
    fired = [(rule, _fires(rule)) for rule in rules.effective]
    verdict = pl.lit("accept")
    for decision in ("review", "reject"):  # from mild to severe: the most severe verdict is applied last
        verdict = pl.when(_any_of(fired, decision)).then(pl.lit(decision)).otherwise(verdict)
    # One step for each column: polars then filters by the verdict first, and computes the others for what is left.
    reasons = reasons_of(rules.effective)
    return segments.with_columns(verdict=verdict).with_columns(reasons=reasons).with_columns(margin=margin_of(rules))


def margin_of(rules: Rules) -> pl.Expr:
    """The margin of each segment, as ``Rules.margin`` computes it."""
    margins = []
    for rule in rules.effective:
        of_rule = pl.min_horizontal(_distance(condition, rules) for condition in rule.when)
        margins.append(pl.when(is_for(rule)).then(of_rule).otherwise(-MAX_MARGIN))
    return pl.max_horizontal(margins)


def reasons_of(rules: Sequence[Rule]) -> pl.Expr:
    """The reasons of the rules that fire, each once, in the order of the rules; at least one rule is needed."""
    return pl.struct(fired_words(rules)).map_batches(
        partial(_look_up_reasons, rules), return_dtype=pl.List(pl.String), is_elementwise=True
    )


def fired_words(rules: Sequence[Rule]) -> list[pl.Expr]:
    """Which rules fire, as bits of the columns ``::fired0``, ``::fired1``, ...: the first rule is bit 0 of the first.

    Few combinations occur, so counting by them answers every question about reasons in memory of a fixed size.
    """
    words = []
    for start in range(0, len(rules), WORD_BITS):
        bits = [
            pl.when(_fires(rule)).then(pl.lit(1 << place, pl.UInt64)).otherwise(pl.lit(0, pl.UInt64))
            for place, rule in enumerate(rules[start : start + WORD_BITS])
        ]
        words.append(reduce(lambda left, right: left | right, bits).alias(f"::fired{start // WORD_BITS}"))
    return words


def read_fired(words: Sequence[int], rules: Sequence[RuleT]) -> list[RuleT]:
    """The rules whose bits are set, in their order; the rules may be given by their places."""
    return [rule for place, rule in enumerate(rules) if words[place // WORD_BITS] >> place % WORD_BITS & 1]


def _look_up_reasons(rules: Sequence[Rule], fired: pl.Series) -> pl.Series:
    rows = fired.struct.unnest()
    known = rows.unique()
    reasons = [list(dict.fromkeys(rule.reason for rule in read_fired(words, rules))) for words in known.iter_rows()]
    known = known.with_columns(pl.Series("::reasons", reasons, pl.List(pl.String)))
    return rows.join(known, on=rows.columns, how="left", maintain_order="left")["::reasons"]


def rule_columns(segments: pl.LazyFrame) -> dict[str, ColumnType]:
    """The columns that rules may read, with their types as rules name them."""
    schema = segments.collect_schema()
    return {
        name: _TYPES[type(kind)]
        for name, kind in schema.items()
        if type(kind) in _TYPES and name not in VERDICT_COLUMNS
    }


def _fires(rule: Rule) -> pl.Expr:
    return pl.all_horizontal(is_for(rule), *(_holds(condition) for condition in rule.when))


def is_for(rule: Rule) -> pl.Expr:
    """Whether a rule is for the segment's language."""
    if not rule.languages:
        return pl.lit(value=True)
    return pl.col(LANGUAGE).is_in(list(rule.languages)).fill_null(value=False)


def limit_of(condition: Condition) -> pl.Expr:
    """The value to compare with, by the segment's language."""
    limit: pl.Expr = pl.lit(condition.value)
    for language, value in condition.by_language:
        limit = pl.when(pl.col(LANGUAGE) == language).then(pl.lit(value)).otherwise(limit)
    return limit


def _distance(condition: Condition, rules: Rules) -> pl.Expr:
    """How far a condition is from its limit, as ``Rules.margin`` counts."""
    if not condition.is_ordered:
        return pl.when(_holds(condition)).then(MAX_MARGIN).otherwise(-MAX_MARGIN)
    column, limit = pl.col(condition.column), limit_of(condition)
    unit = (pl.lit(rules.typical.get(condition.column, 0.0)) - limit).abs()
    above = (column - limit) / pl.when(unit == 0).then(1.0).otherwise(unit)
    distance = above if condition.op[0] == ">" else -above
    return distance.clip(-MAX_MARGIN, MAX_MARGIN).fill_null(-MAX_MARGIN)


def _holds(condition: Condition) -> pl.Expr:
    """True or False, never null: a comparison with a missing value does not hold."""
    column, limit = pl.col(condition.column), limit_of(condition)
    comparisons = {
        "<": column.lt,
        "<=": column.le,
        ">": column.gt,
        ">=": column.ge,
        "==": column.eq,
        "!=": column.ne,
    }
    if condition.op in comparisons:
        return comparisons[condition.op](limit).fill_null(value=False)
    return column.is_null() if condition.op == "missing" else column.is_not_null()


def _any_of(fired: Sequence[tuple[Rule, pl.Expr]], decision: Decision) -> pl.Expr:
    return pl.any_horizontal(pl.lit(value=False), *(fires for rule, fires in fired if rule.verdict == decision))

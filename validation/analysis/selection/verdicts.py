"""Verdict rules as polars expressions: what ``Rules.judge`` says of one segment, said of all of them at once."""

from collections.abc import Sequence

import polars as pl

from validation.domain import ColumnType
from validation.scoring.rules_io import check_columns
from validation.scoring.verdict import Condition, Decision, Rule, Rules

JUDGED = ("verdict", "reasons", "stored_verdict")
"""The columns that rules write, and may not read: they judge anew."""
_TYPES: dict[type[pl.DataType], ColumnType] = {
    pl.Float64: "float",
    pl.Int64: "int",
    pl.String: "str",
    pl.Boolean: "bool",
}


def judge_segments(segments: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Put the rules' verdict and reasons in the place of the stored ones; nothing is read but the schema.

    The stored verdict, where there is one, moves to ``stored_verdict``.

    Equal to ``Rules.judge`` for every row, null for null and reason for reason: a shard that was judged by the same
    rules when it was written stays as it is.

    Raises:
        BadRules: a rule reads a column that the segments do not have; names the nearest one.
    """
    check_columns(rules, name_columns(segments))
    if "verdict" in segments.collect_schema():
        segments = segments.with_columns(stored_verdict="verdict")
    fired = [(rule, _fires(rule)) for rule in rules.effective]
    verdict = pl.lit("accept")
    for decision in ("review", "reject"):  # from mild to severe: the last word is the severest
        verdict = pl.when(_any_of(fired, decision)).then(pl.lit(decision)).otherwise(verdict)
    return segments.with_columns(verdict=verdict, reasons=give_reasons(rules.effective))


def give_reasons(rules: Sequence[Rule]) -> pl.Expr:
    """The reasons of those of the rules that fire, each once, in their order; at least one rule."""
    reasons = pl.concat_list(pl.when(_fires(rule)).then(pl.lit(rule.reason)) for rule in rules)
    return reasons.list.drop_nulls().list.unique(maintain_order=True)


def name_columns(segments: pl.LazyFrame) -> dict[str, ColumnType]:
    """The columns that rules may read, with their types in the words of rules."""
    schema = segments.collect_schema()
    return {name: _TYPES[type(kind)] for name, kind in schema.items() if type(kind) in _TYPES and name not in JUDGED}


def _fires(rule: Rule) -> pl.Expr:
    return pl.all_horizontal(_holds(condition) for condition in rule.when)


def _holds(condition: Condition) -> pl.Expr:
    """True or False, never null: a comparison of a missing value does not hold."""
    column, value = pl.col(condition.column), condition.value
    comparisons = {
        "<": column.lt,
        "<=": column.le,
        ">": column.gt,
        ">=": column.ge,
        "==": column.eq,
        "!=": column.ne,
    }
    if condition.op in comparisons:
        return comparisons[condition.op](pl.lit(value)).fill_null(value=False)
    return column.is_null() if condition.op == "missing" else column.is_not_null()


def _any_of(fired: Sequence[tuple[Rule, pl.Expr]], decision: Decision) -> pl.Expr:
    return pl.any_horizontal(pl.lit(value=False), *(fires for rule, fires in fired if rule.verdict == decision))

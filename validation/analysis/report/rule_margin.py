"""Signed margin of a segment to the rule boundary: large values are the worst segments, small ones are borderline."""

from collections.abc import Iterable, Mapping

import polars as pl

from validation.analysis.report.signals import Signal
from validation.analysis.selection.verdicts import is_for, limit_of
from validation.scoring.verdict import Condition, Rule, Rules

MARGIN = "::margin"
"""The name of the margin's column."""


def rule_margin(rules: Iterable[Rule], signals: Mapping[str, Signal]) -> pl.Expr:
    """Signed margin of a segment to the boundary of some rules, in units of ``|limit - median|`` of each signal.

    Positive: a rule fires, and a signal would have to move by the margin for none to fire. Negative: no rule fires, and
    a signal would have to move by the margin for one to fire. Infinite: only conditions without a number decide, such
    as a missing answer. This is the robustness of a formula in min and max (Fainekos and Pappas 2009): a rule's
    margin is that of its weakest condition, several rules' margin is that of the strongest rule.

    Args:
        rules: some of ``Rules.effective``, at least one.
        signals: the numbers that the rules compare, by column.
    """
    margins = [
        pl.when(is_for(rule))
        .then(pl.min_horizontal([_condition_margin(condition, signals) for condition in rule.when]))
        .otherwise(float("-inf"))
        for rule in rules
    ]
    return pl.max_horizontal(margins).alias(MARGIN)


def rules_by_reason(rules: Rules) -> dict[str, list[Rule]]:
    """The rules that give each reason, in their order."""
    grouped: dict[str, list[Rule]] = {}
    for rule in rules.effective:
        grouped.setdefault(rule.reason, []).append(rule)
    return grouped


def _condition_margin(condition: Condition, signals: Mapping[str, Signal]) -> pl.Expr:
    """By how much a condition holds, negative where it does not; plus or minus infinity where nothing is compared."""
    column, value = pl.col(condition.column), condition.value
    if condition.op in {"<", "<=", ">", ">="} and isinstance(value, int | float) and condition.column in signals:
        signal = signals[condition.column]
        above = (column - limit_of(condition)) / (abs(signal.median - value) or signal.high - signal.low)
        margin = above if condition.op in {">", ">="} else -above
        return margin.fill_null(float("-inf"))
    holds = {
        "missing": column.is_null(),
        "present": column.is_not_null(),
        "==": column.eq(pl.lit(value)),
        "!=": column.ne(pl.lit(value)),
        "<": column.lt(limit_of(condition)),
        "<=": column.le(limit_of(condition)),
        ">": column.gt(limit_of(condition)),
        ">=": column.ge(limit_of(condition)),
    }[condition.op].fill_null(value=False)
    return pl.when(holds).then(float("inf")).otherwise(float("-inf"))

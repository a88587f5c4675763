"""Compute the report's margin of a segment: the signed distance to the limits of some rules.

A large positive margin means a clear defect. A margin near zero means a borderline segment. This margin differs from
the column ``margin`` of the shards: its unit is the distance from a limit to the median of the reported segments,
and not to the ``typical`` value of the rules file, and it is not limited to ``MAX_MARGIN``.
"""

from collections.abc import Iterable, Mapping

import polars as pl

from validation.analysis.report.signals import Signal
from validation.analysis.selection.verdicts import applies_to_language, limit_of
from validation.scoring.verdict import Condition, Rule, Rules

MARGIN = "::margin"
"""Name of the column that holds the report's margin."""


def rule_margin(rules: Iterable[Rule], signals: Mapping[str, Signal]) -> pl.Expr:
    """Return an expression for a segment's margin to some rules.

    The unit of a signal is the distance from the rule's common limit to the signal's median; if it is 0, the width of
    the signal's axis.

    The margin of a condition is positive if the condition holds. A rule has the smallest margin of its conditions, and
    a set of rules has the largest margin of its rules (the robustness of Fainekos and Pappas 2009). So the margin is
    positive if a rule fires. It is infinite if only conditions without a number determine the result, for example a
    missing answer. A rule for other languages does not count.

    Args:
        rules: at least one rule of ``Rules.effective``.
        signals: the numeric signals that the rules compare, by column.
    """
    margins = [
        pl.when(applies_to_language(rule))
        .then(pl.min_horizontal([_condition_margin(condition, signals) for condition in rule.when]))
        .otherwise(float("-inf"))
        for rule in rules
    ]
    return pl.max_horizontal(margins).alias(MARGIN)


def rules_by_reason(rules: Rules) -> dict[str, list[Rule]]:
    """Group the effective rules by their reason. The rules of a reason keep their order."""
    grouped: dict[str, list[Rule]] = {}
    for rule in rules.effective:
        grouped.setdefault(rule.reason, []).append(rule)
    return grouped


def _condition_margin(condition: Condition, signals: Mapping[str, Signal]) -> pl.Expr:
    """Return the margin of one condition: positive if the condition holds, negative if it does not.

    The margin is plus or minus infinity if the condition does not compare a signal with a number, and minus infinity if
    the signal is missing.
    """
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

"""How far a segment is from being accepted, or from not being: what is worst, and what is borderline."""

from collections.abc import Iterable, Mapping

import polars as pl

from validation.analysis.report.signals import Signal
from validation.scoring.verdict import Condition, Rule, Rules

DOUBT = "::doubt"


def rule_margin(rules: Iterable[Rule], signals: Mapping[str, Signal]) -> pl.Expr:
    """How deep inside the rules' reach a segment lies. One is the way from a limit to the usual value of its signal.

    Positive where a rule fires: by so much would a signal have to move for none to fire. Negative where none does: by
    so much would one have to move for a rule to fire. Infinite where only facts decide that are not numbers, such as
    an answer that is missing. It is the robustness of a formula in min and max (Fainekos and Pappas 2009): a rule holds
    by its weakest condition, the rules together by their strongest rule.

    Args:
        rules: some of ``Rules.effective``, at least one.
        signals: the numbers that rules compare, by column.
    """
    depths = [pl.min_horizontal([_margin(condition, signals) for condition in rule.when]) for rule in rules]
    return pl.max_horizontal(depths).alias(DOUBT)


def rules_by_reason(rules: Rules) -> dict[str, list[Rule]]:
    """The rules that give each reason, in their order."""
    grouped: dict[str, list[Rule]] = {}
    for rule in rules.effective:
        grouped.setdefault(rule.reason, []).append(rule)
    return grouped


def _margin(condition: Condition, signals: Mapping[str, Signal]) -> pl.Expr:
    """By how much a condition holds, negative where it does not. Yes or no is plus or minus infinity."""
    column, value = pl.col(condition.column), condition.value
    if condition.op in {"<", "<=", ">", ">="} and isinstance(value, int | float) and condition.column in signals:
        signal = signals[condition.column]
        above = (column - value) / (abs(signal.usual - value) or signal.high - signal.low)
        margin = above if condition.op in {">", ">="} else -above
        return margin.fill_null(float("-inf"))
    holds = {
        "missing": column.is_null(),
        "present": column.is_not_null(),
        "==": column.eq(pl.lit(value)),
        "!=": column.ne(pl.lit(value)),
        "<": column.lt(pl.lit(value)),
        "<=": column.le(pl.lit(value)),
        ">": column.gt(pl.lit(value)),
        ">=": column.ge(pl.lit(value)),
    }[condition.op].fill_null(value=False)
    return pl.when(holds).then(float("inf")).otherwise(float("-inf"))

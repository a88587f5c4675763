"""Verdict rules and filters as DuckDB expressions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from validation.domain import Scalar
from validation.errors import BadInput
from validation.scoring.verdict import LANGUAGE, Condition, Rule, Rules

_OPERATORS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "=", "!=": "<>"}
MAX_BITS = 62
"""Rules that have a bit in the column `fired`."""
_TEXT_FILTERS = {
    "contains": "contains(lower({column}), lower({value}))",
    "notContains": "NOT coalesce(contains(lower({column}), lower({value})), false)",
    "equals": "{column} = {value}",
    "notEqual": "{column} IS DISTINCT FROM {value}",
    "startsWith": "starts_with(lower({column}), lower({value}))",
    "endsWith": "ends_with(lower({column}), lower({value}))",
}
_NUMBER_FILTERS = {
    "equals": "=",
    "notEqual": "<>",
    "lessThan": "<",
    "lessThanOrEqual": "<=",
    "greaterThan": ">",
    "greaterThanOrEqual": ">=",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which segments are looked at. All parts must hold."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Closed intervals of number columns: the brushed histograms."""
    values: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Wanted values of text columns: the clicked bars."""
    grid: Mapping[str, Any] = field(default_factory=dict)
    """The filter model of AG Grid, by column."""
    where: str = ""
    """A condition in SQL."""

    def to_sql(self, columns: Collection[str], *, without: str | None = None) -> str:
        """The condition in SQL.

        Args:
            columns: the columns that exist; parts that read others are left out.
            without: leave out the range and the values of this column, as its own histogram does.
        """
        parts = [
            f"{quote_name(name)} BETWEEN {literal(low)} AND {literal(high)}"
            for name, (low, high) in self.ranges.items()
            if name != without and name in columns
        ]
        parts += [_any_value(name, wanted) for name, wanted in self.values.items() if name != without]
        parts += [_grid_condition(name, model) for name, model in self.grid.items() if name in columns]
        parts += [f"({self.where})"] if self.where.strip() else []
        return " AND ".join(parts) or "true"


def quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: Scalar) -> str:
    """A value in SQL. A float is written as a double: DuckDB would read `0.1` as a decimal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"CAST('{value!r}' AS DOUBLE)" if isinstance(value, float) else str(value)


class RuleSql:
    """Verdicts and reasons of rules in SQL: the same as ``Rules.evaluate`` gives for every row.

    Rules that the table was judged by are read from the bits of its column ``fired``; other rules are computed.
    """

    def __init__(self, rules: Rules, judged_by: Sequence[Rule] = ()) -> None:
        """Combine the rules with the rules of the bits, of which the first stands for bit 0."""
        self.rules = rules
        self._bits = {(rule.when, rule.languages): 1 << place for place, rule in enumerate(judged_by[:MAX_BITS])}

    @property
    def verdict(self) -> str:
        branches = "".join(
            f" WHEN {self._any_fires(chosen)} THEN {literal(decision)}"
            for decision in ("reject", "review")
            if (chosen := [rule for rule in self.rules.effective if rule.verdict == decision])
        )
        return f"CASE{branches} ELSE 'accept' END" if branches else "'accept'"

    @property
    def reasons(self) -> str:
        """The list of the reasons that fire, each once, in the order of the first rules that fire."""
        rules = self.rules.effective
        fired = ", ".join(f"CASE WHEN {self._any_fires([rule])} THEN {literal(rule.reason)} END" for rule in rules)
        first = f"list_position([{fired}], reason) = place"
        return f"list_filter([{fired}], lambda reason, place: reason IS NOT NULL AND {first})"

    def by_reason(self) -> dict[str, str]:
        """For each reason the condition that a rule with this reason fires."""
        grouped: dict[str, list[Rule]] = {}
        for rule in self.rules.effective:
            grouped.setdefault(rule.reason, []).append(rule)
        return {reason: self._any_fires(rules) for reason, rules in grouped.items()}

    def _any_fires(self, rules: Sequence[Rule]) -> str:
        mask = sum({self._bits.get((rule.when, rule.languages), 0) for rule in rules})
        parts = [f"(fired & {mask}) <> 0"] if mask else []
        return (
            "("
            + " OR ".join(parts + [fires(rule) for rule in rules if (rule.when, rule.languages) not in self._bits])
            + ")"
        )


def fired_sql(rules: Sequence[Rule]) -> str:
    """The bits of the rules that fire: the first rule is bit 0. Rules beyond ``MAX_BITS`` have none."""
    bits = [f"CAST({fires(rule)} AS UBIGINT) << {place}" for place, rule in enumerate(rules[:MAX_BITS])]
    return " | ".join(f"({bit})" for bit in bits) or "CAST(0 AS UBIGINT)"


def grid_order(sort: Sequence[Mapping[str, str]], columns: Collection[str]) -> str:
    """The sort model of AG Grid as an ORDER BY; empty if nothing is sorted. Missing values come last."""
    keys = [
        f"{quote_name(each['colId'])} {'DESC' if each['sort'] == 'desc' else 'ASC'} NULLS LAST"
        for each in sort
        if each["colId"] in columns
    ]
    return f" ORDER BY {', '.join(keys)}" if keys else ""


def fires(rule: Rule) -> str:
    """The condition that a rule is for the segment's language and that all of its conditions hold."""
    listed = ", ".join(map(literal, rule.languages))
    for_language = [f"coalesce({LANGUAGE} IN ({listed}), false)"] if rule.languages else []
    return "(" + " AND ".join(for_language + [_holds(condition) for condition in rule.when]) + ")"


def _holds(condition: Condition) -> str:
    """True or false, never null: a comparison with a missing value does not hold."""
    column = quote_name(condition.column)
    if condition.op in {"missing", "present"}:
        return f"{column} IS {'' if condition.op == 'missing' else 'NOT '}NULL"
    return f"coalesce({column} {_OPERATORS[condition.op]} {_limit(condition)}, false)"


def _limit(condition: Condition) -> str:
    """The value to compare with, by the segment's language."""
    if not condition.by_language:
        return literal(condition.value)
    branches = " ".join(f"WHEN {literal(name)} THEN {literal(float(limit))}" for name, limit in condition.by_language)
    return f"CASE {LANGUAGE} {branches} ELSE {literal(float(condition.value or 0))} END"


def _any_value(name: str, wanted: Collection[str]) -> str:
    listed = ", ".join(literal(value) for value in wanted)
    if name == "reasons":
        return f"list_has_any(reasons, [{listed}])"
    return f"{quote_name(name)} IN ({listed})"


def _grid_condition(name: str, model: Mapping[str, Any]) -> str:
    """One column's filter of AG Grid: a single condition, or several that are joined by AND or OR."""
    if "operator" in model:
        joined = f" {'OR' if model['operator'] == 'OR' else 'AND'} ".join(
            _grid_condition(name, each) for each in model.get("conditions", ())
        )
        return f"({joined})"
    column, kind = quote_name(name), model.get("type")
    if kind in {"blank", "notBlank"}:
        return f"{column} IS {'' if kind == 'blank' else 'NOT '}NULL"
    if model.get("filterType") == "number":
        if kind == "inRange":
            return f"{column} BETWEEN {literal(float(model['filter']))} AND {literal(float(model['filterTo']))}"
        if kind in _NUMBER_FILTERS:
            return f"{column} {_NUMBER_FILTERS[kind]} {literal(float(model['filter']))}"
    elif kind in _TEXT_FILTERS:
        text = f"CAST({column} AS VARCHAR)"
        return _TEXT_FILTERS[kind].format(column=text, value=literal(str(model["filter"])))
    raise BadInput(f"the table's filter of {name} is unknown: {kind!r}")

"""Translate verdict rules and filters to DuckDB expressions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from validation.domain import Scalar
from validation.errors import BadInput
from validation.scoring.verdict import LANGUAGE, Condition, Rule, Rules

_OPERATORS = {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "==": "=", "!=": "<>"}
MAX_BITS = 62
"""Maximum number of rules with a bit in the column ``fired``."""
_TEXT_FILTERS = {
    "contains": "contains(lower({column}), lower({value}))",
    "notContains": "NOT coalesce(contains(lower({column}), lower({value})), false)",
    "equals": "{column} = {value}",
    "notEqual": "{column} IS DISTINCT FROM {value}",
    "startsWith": "starts_with(lower({column}), lower({value}))",
    "endsWith": "ends_with(lower({column}), lower({value}))",
}
"""SQL per type of AG Grid's text filter."""
_NUMBER_FILTERS = {
    "equals": "=",
    "notEqual": "<>",
    "lessThan": "<",
    "lessThanOrEqual": "<=",
    "greaterThan": ">",
    "greaterThanOrEqual": ">=",
}
"""SQL operator per type of AG Grid's number filter."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of segments. A segment passes the filter if all its parts hold."""

    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Closed interval per numeric column, from brushed histograms."""
    values: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Wanted values per text column, from clicked bars."""
    grid: Mapping[str, Any] = field(default_factory=dict)
    """Filter model of AG Grid per column."""
    where: str = ""
    """SQL condition that the user entered."""

    def to_sql(self, columns: Collection[str], *, without: str | None = None) -> str:
        """Return the filter as an SQL condition; ``true`` if the filter is empty.

        Args:
            columns: the columns that exist. Ranges and grid filters of other columns are left out.
            without: a column whose range and values are left out, because the result is drawn over this column.

        Raises:
            BadInput: a filter model of AG Grid has an unknown type.
        """
        parts = [
            f"{quote_name(name)} BETWEEN {literal(low)} AND {literal(high)}"
            for name, (low, high) in self.ranges.items()
            if name != without and name in columns
        ]
        parts += [_has_any_value(name, wanted) for name, wanted in self.values.items() if name != without]
        parts += [_grid_condition(name, model) for name, model in self.grid.items() if name in columns]
        parts += [f"({self.where})"] if self.where.strip() else []
        return " AND ".join(parts) or "true"


def quote_name(name: str) -> str:
    """Return the name of a column as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Scalar) -> str:
    """Return a value as an SQL literal. A float is cast to DOUBLE, because DuckDB would parse `0.1` as a decimal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"CAST('{value!r}' AS DOUBLE)" if isinstance(value, float) else str(value)


class RuleSql:
    """SQL expressions for the verdict and the reasons that ``Rules.evaluate`` returns for a row.

    The first ``MAX_BITS`` rules of ``judged_by`` are read from the column ``fired``. The query evaluates other rules.
    """

    def __init__(self, rules: Rules, judged_by: Sequence[Rule] = ()) -> None:
        """Store the rules, and the rules whose bits the column ``fired`` holds; the first of them is bit 0."""
        self.rules = rules
        self._bits = {(rule.when, rule.languages): 1 << place for place, rule in enumerate(judged_by[:MAX_BITS])}

    @property
    def verdict(self) -> str:
        """An SQL text: the severest verdict of the firing rules."""
        branches = "".join(
            f" WHEN {self._any_fires(chosen)} THEN {literal(decision)}"
            for decision in ("reject", "review")
            if (chosen := [rule for rule in self.rules.effective if rule.verdict == decision])
        )
        return f"CASE{branches} ELSE 'accept' END" if branches else "'accept'"

    @property
    def reasons(self) -> str:
        """An SQL list of the distinct reasons of the firing rules, in the order of the first firing rule per reason."""
        rules = self.rules.effective
        fired = ", ".join(f"CASE WHEN {self._any_fires([rule])} THEN {literal(rule.reason)} END" for rule in rules)
        first = f"list_position([{fired}], reason) = place"
        return f"list_filter([{fired}], lambda reason, place: reason IS NOT NULL AND {first})"

    def by_reason(self) -> dict[str, str]:
        """Return per reason an SQL condition that is true if a rule with this reason fires."""
        grouped: dict[str, list[Rule]] = {}
        for rule in self.rules.effective:
            grouped.setdefault(rule.reason, []).append(rule)
        return {reason: self._any_fires(rules) for reason, rules in grouped.items()}

    def _any_fires(self, rules: Sequence[Rule]) -> str:
        """Return an SQL condition: at least one of the rules fires."""
        mask = sum({self._bits.get((rule.when, rule.languages), 0) for rule in rules})
        parts = [f"(fired & {mask}) <> 0"] if mask else []
        return (
            "("
            + " OR ".join(parts + [fires(rule) for rule in rules if (rule.when, rule.languages) not in self._bits])
            + ")"
        )


def fired_sql(rules: Sequence[Rule]) -> str:
    """Return an SQL expression for the bit mask of firing rules. Rule ``n`` is bit ``n``, up to ``MAX_BITS`` rules."""
    bits = [f"CAST({fires(rule)} AS UBIGINT) << {place}" for place, rule in enumerate(rules[:MAX_BITS])]
    return " | ".join(f"({bit})" for bit in bits) or "CAST(0 AS UBIGINT)"


def grid_order(sort: Sequence[Mapping[str, str]], columns: Collection[str]) -> str:
    """Return the sort model of AG Grid as an ORDER BY clause, or an empty string without sort. Nulls come last."""
    keys = [
        f"{quote_name(each['colId'])} {'DESC' if each['sort'] == 'desc' else 'ASC'} NULLS LAST"
        for each in sort
        if each["colId"] in columns
    ]
    return f" ORDER BY {', '.join(keys)}" if keys else ""


def fires(rule: Rule) -> str:
    """Return an SQL condition: the rule applies to the segment's language, and all its conditions hold."""
    listed = ", ".join(map(literal, rule.languages))
    for_language = [f"coalesce({LANGUAGE} IN ({listed}), false)"] if rule.languages else []
    return "(" + " AND ".join(for_language + [_holds(condition) for condition in rule.when]) + ")"


def _holds(condition: Condition) -> str:
    """Return an SQL condition that is never null: comparing a missing value gives false."""
    column = quote_name(condition.column)
    if condition.op in {"missing", "present"}:
        return f"{column} IS {'' if condition.op == 'missing' else 'NOT '}NULL"
    return f"coalesce({column} {_OPERATORS[condition.op]} {_limit(condition)}, false)"


def _limit(condition: Condition) -> str:
    """Return an SQL expression for the limit of a condition; the limit may depend on the segment's language."""
    if not condition.by_language:
        return literal(condition.value)
    branches = " ".join(f"WHEN {literal(name)} THEN {literal(float(limit))}" for name, limit in condition.by_language)
    return f"CASE {LANGUAGE} {branches} ELSE {literal(float(condition.value or 0))} END"


def _has_any_value(name: str, wanted: Collection[str]) -> str:
    """Return an SQL condition: the column has one of the values; the list of reasons contains one of them."""
    listed = ", ".join(literal(value) for value in wanted)
    if name == "reasons":
        return f"list_has_any(reasons, [{listed}])"
    return f"{quote_name(name)} IN ({listed})"


def _grid_condition(name: str, model: Mapping[str, Any]) -> str:
    """Return the SQL condition of an AG Grid filter of one column, with one condition or several conditions.

    Raises:
        BadInput: the model has an unknown type.
    """
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

"""Translate verdict rules to polars expressions that compute ``Rules.evaluate`` for all segments at once."""

from collections.abc import Sequence
from functools import partial, reduce
from typing import TypeVar

import polars as pl

from validation.domain import ColumnType
from validation.languages import to_macrolanguage
from validation.scoring.rules_io import check_columns
from validation.scoring.verdict import LANGUAGE, MAX_MARGIN, Condition, Decision, Rule, Rules

VERDICT_COLUMNS = ("verdict", "reasons", "margin", "stored_verdict")
"""Columns that ``apply_rules`` computes. Rules may not read them."""
LANGUAGE_GROUP = pl.coalesce("language_code", "language", pl.lit("unknown"))
"""The language by which segments are grouped: the code of the declared language, else its label, else ``unknown``."""
RuleT = TypeVar("RuleT")
WORD_BITS = 64
"""Number of rules per column ``::firedN``: one bit of a 64-bit integer per rule."""
_TYPES: dict[type[pl.DataType], ColumnType] = {
    pl.Float64: "float",
    pl.Int64: "int",
    pl.String: "str",
    pl.Boolean: "bool",
}


def apply_rules(segments: pl.LazyFrame, rules: Rules) -> pl.LazyFrame:
    """Replace the stored verdict, reasons and margin by the results of ``rules``. This call reads only the schema.

    A stored verdict is kept in the column ``stored_verdict``. For every row, the result equals ``Rules.evaluate``,
    including missing values and the order of reasons. Rows that were written with the same rules do not change.

    Raises:
        BadRules: a rule reads a column that the segments lack, or compares a column with a value of another type.
    """
    check_columns(rules, rule_columns(segments))
    if "verdict" in segments.collect_schema():
        segments = segments.with_columns(stored_verdict="verdict")
    fired = [(rule, _fires(rule)) for rule in rules.effective]
    verdict = pl.lit("accept")
    for decision in ("review", "reject"):  # from mild to severe: the most severe verdict is applied last
        verdict = pl.when(_any_of(fired, decision)).then(pl.lit(decision)).otherwise(verdict)
    # One ``with_columns`` call per column lets polars filter by verdict before it computes reasons and margins.
    reasons = reasons_of(rules.effective)
    return segments.with_columns(verdict=verdict).with_columns(reasons=reasons).with_columns(margin=margin_of(rules))


def matches_declared_language(model: str) -> pl.Expr:
    """Return an expression: whether a LID model's first choice counts as the declared language, as in ``count_votes``.

    It is null if the model has no first choice, or if the segment declares no language.
    """
    return _macrolanguage(f"{model}_language") == _macrolanguage("language_code")


def _macrolanguage(column: str) -> pl.Expr:
    """Map the codes of a column by ``to_macrolanguage``, once per distinct code."""

    def replace_codes(codes: pl.Series) -> pl.Series:
        distinct = codes.drop_nulls().unique().to_list()
        return codes.replace(distinct, list(map(to_macrolanguage, distinct)))

    return pl.col(column).map_batches(replace_codes, return_dtype=pl.String, is_elementwise=True)


def margin_of(rules: Rules) -> pl.Expr:
    """Return an expression for the margin of each segment, as ``Rules.margin`` computes it."""
    margins = []
    for rule in rules.effective:
        of_rule = pl.min_horizontal(_distance(condition, rules) for condition in rule.when)
        margins.append(pl.when(applies_to_language(rule)).then(of_rule).otherwise(-MAX_MARGIN))
    return pl.max_horizontal(margins)


def reasons_of(rules: Sequence[Rule]) -> pl.Expr:
    """Return an expression for the distinct reasons of the firing rules, in the order of ``rules`` (at least one)."""
    return pl.struct(fired_words(rules)).map_batches(
        partial(_look_up_reasons, rules), return_dtype=pl.List(pl.String), is_elementwise=True
    )


def fired_words(rules: Sequence[Rule]) -> list[pl.Expr]:
    """Return expressions for the columns ``::fired0``, ``::fired1``, ...: 64-bit words that mark the firing rules.

    Rule ``n`` is bit ``n % WORD_BITS`` of column ``n // WORD_BITS``. Few combinations of firing rules occur. Counts
    per combination therefore need little memory, and all statistics about reasons can be computed from them.
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
    """Return the elements of ``rules`` whose bits are set in ``words``, in order. Elements may be rules or indexes."""
    return [rule for place, rule in enumerate(rules) if words[place // WORD_BITS] >> place % WORD_BITS & 1]


def _look_up_reasons(rules: Sequence[Rule], fired: pl.Series) -> pl.Series:
    """Return the reasons of each row of ``fired``, a struct of the columns of ``fired_words``."""
    rows = fired.struct.unnest()
    known = rows.unique()
    reasons = [list(dict.fromkeys(rule.reason for rule in read_fired(words, rules))) for words in known.iter_rows()]
    known = known.with_columns(pl.Series("::reasons", reasons, pl.List(pl.String)))
    return rows.join(known, on=rows.columns, how="left", maintain_order="left")["::reasons"]


def rule_columns(segments: pl.LazyFrame) -> dict[str, ColumnType]:
    """Return the columns that rules may read, with the type names that rules files use."""
    schema = segments.collect_schema()
    return {
        name: _TYPES[type(kind)]
        for name, kind in schema.items()
        if type(kind) in _TYPES and name not in VERDICT_COLUMNS
    }


def _fires(rule: Rule) -> pl.Expr:
    """Return an expression that is true if the rule fires. It is never null."""
    return pl.all_horizontal(applies_to_language(rule), *(_holds(condition) for condition in rule.when))


def applies_to_language(rule: Rule) -> pl.Expr:
    """Return an expression that is true if the rule applies to the segment's language. It is never null.

    A rule for certain languages does not apply to a segment without a language.
    """
    if not rule.languages:
        return pl.lit(value=True)
    return pl.col(LANGUAGE).is_in(list(rule.languages)).fill_null(value=False)


def limit_of(condition: Condition) -> pl.Expr:
    """Return an expression for the limit of a condition; the limit may depend on the segment's language."""
    limit: pl.Expr = pl.lit(condition.value)
    for language, value in condition.by_language:
        limit = pl.when(pl.col(LANGUAGE) == language).then(pl.lit(value)).otherwise(limit)
    return limit


def _distance(condition: Condition, rules: Rules) -> pl.Expr:
    """Return an expression for the signed distance of a signal from its limit, as ``Rules.margin`` computes it."""
    if not condition.is_ordered:
        return pl.when(_holds(condition)).then(MAX_MARGIN).otherwise(-MAX_MARGIN)
    column, limit = pl.col(condition.column), limit_of(condition)
    unit = (pl.lit(rules.typical.get(condition.column, 0.0)) - limit).abs()
    above = (column - limit) / pl.when(unit == 0).then(1.0).otherwise(unit)
    distance = above if condition.op[0] == ">" else -above
    return distance.clip(-MAX_MARGIN, MAX_MARGIN).fill_null(-MAX_MARGIN)


def _holds(condition: Condition) -> pl.Expr:
    """Return a boolean expression for a condition. It is never null: comparing a missing value gives False."""
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
    """Return an expression that is true if a rule with the verdict ``decision`` fires."""
    return pl.any_horizontal(pl.lit(value=False), *(fires for rule, fires in fired if rule.verdict == decision))

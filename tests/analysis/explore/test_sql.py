"""The rules in DuckDB are the rules of the scorer, and filters mean what the page says."""

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.selection.test_verdicts import COLUMNS, ROWS, RULES, evaluate_rows
from validation.analysis.explore.sql import Filter, RuleSql, fired_sql, grid_order
from validation.errors import BadInput
from validation.scoring.verdict import Rules

KINDS = {"Float64": "DOUBLE", "Int64": "BIGINT", "String": "VARCHAR", "Boolean": "BOOLEAN"}


def make_table(rows, judged_by=()):
    database = duckdb.connect()
    columns = ", ".join(f"{name} {KINDS[kind.__name__]}" for name, kind in COLUMNS.items())
    database.execute(f"CREATE TABLE segments ({columns})")
    marks = ", ".join("?" for _ in COLUMNS)
    database.executemany(f"INSERT INTO segments VALUES ({marks})", [[row[name] for name in COLUMNS] for row in rows])
    database.execute("ALTER TABLE segments ADD COLUMN fired UBIGINT")
    database.execute(f"UPDATE segments SET fired = {fired_sql(judged_by)}")
    return database


@settings(max_examples=120, deadline=None)
@given(ROWS, RULES, RULES, st.booleans())
def test_duckdb_and_python_rules_give_the_same_verdict(rows, rules, others, same):
    """For any rules, any signals, and a table judged by the same or by other rules: equal verdicts and reasons."""
    asked = Rules(version="any", required_models=("ear",), rules=tuple(rules))
    judged_by = (asked if same else Rules(version="old", required_models=(), rules=tuple(others))).effective
    sql = RuleSql(asked, judged_by)
    with make_table(rows, judged_by) as database:
        found = database.execute(f"SELECT {sql.verdict}, {sql.reasons} FROM segments").fetchall()
    assert found == [(verdict, reasons) for verdict, reasons, _ in evaluate_rows(asked, rows)]


SEGMENTS = """CREATE TABLE t AS SELECT * FROM (VALUES
    (0, 0.1, 'hi', 'Ab''c', ['noisy']), (1, 0.3, 'ta', NULL, ['odd', 'noisy']), (2, NULL, 'hi', 'b', []))
    v (id, cer, lang, text, reasons)"""


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (Filter(), [0, 1, 2]),
        (Filter(ranges={"cer": (0.1, 0.3)}), [0, 1]),
        (Filter(values={"lang": ["hi"]}), [0, 2]),
        (Filter(values={"reasons": ["noisy"]}), [0, 1]),
        (Filter(ranges={"cer": (0.2, 1)}, values={"lang": ["hi"]}), []),
        (Filter(where="cer < 0.2 OR text = 'b'", values={"lang": ["hi"]}), [0, 2]),
        (Filter(grid={"text": {"filterType": "text", "type": "contains", "filter": "B'C"}}), [0]),
        (Filter(grid={"text": {"filterType": "text", "type": "notContains", "filter": "c"}}), [1, 2]),
        (Filter(grid={"text": {"filterType": "text", "type": "blank"}}), [1]),
        (Filter(grid={"cer": {"filterType": "number", "type": "greaterThan", "filter": 0.1}}), [1]),
        (Filter(grid={"cer": {"filterType": "number", "type": "inRange", "filter": 0, "filterTo": 0.2}}), [0]),
        (
            Filter(
                grid={
                    "lang": {
                        "operator": "OR",
                        "conditions": [
                            {"filterType": "text", "type": "equals", "filter": "ta"},
                            {"filterType": "text", "type": "startsWith", "filter": "h"},
                        ],
                    }
                }
            ),
            [0, 1, 2],
        ),
    ],
)
def test_a_filter_finds_exactly_its_segments(chosen, found):
    """Brushed ranges, clicked values, the table's filters and SQL are all joined by AND."""
    with duckdb.connect() as database:
        database.execute(SEGMENTS)
        where = chosen.to_sql(["cer", "lang", "text", "reasons"])
        assert [row[0] for row in database.execute(f"SELECT id FROM t WHERE {where} ORDER BY id").fetchall()] == found


def test_a_column_of_its_own_is_left_out_of_the_filter_for_its_histogram():
    """A brushed histogram shows also what lies outside its own range."""
    chosen = Filter(ranges={"cer": (0, 1)}, values={"lang": ["hi"]})
    assert chosen.to_sql(["cer", "lang"], without="cer") == "\"lang\" IN ('hi')"


def test_an_unknown_filter_of_the_table_is_refused():
    """A filter that this version does not know is not ignored, because the table would show too much."""
    with pytest.raises(BadInput, match="unknown"):
        Filter(grid={"cer": {"filterType": "number", "type": "fuzzy", "filter": 1}}).to_sql(["cer"])


def test_the_sort_order_names_only_columns_that_exist():
    """Names of columns are compared with the table's, so a request cannot carry SQL."""
    order = grid_order([{"colId": "cer", "sort": "desc"}, {"colId": "1; DROP", "sort": "asc"}], ["cer"])
    assert order == ' ORDER BY "cer" DESC NULLS LAST'

"""What a selection says about languages of which much is for review."""

import polars as pl
import pyarrow as pa
import pytest

from tests.support.report_helpers import RULES, SCHEMA, make_row
from validation.analysis.selection.summary import summarize_selection
from validation.analysis.selection.verdicts import apply_rules


def summarize(rows):
    return summarize_selection(apply_rules(pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)).lazy(), RULES), RULES, [])


def test_a_language_with_many_reviews_names_the_rule_that_sends_most_hours_there():
    """The share is of hours; rejected segments and a language with few reviews are not explained."""
    rows = [make_row("a", n, language="ta", cer=0.6 if n < 3 else 0.1) for n in range(10)]
    rows += [make_row("b", n, language="hi", cer=0.6 if n < 1 else 0.1) for n in range(10)]
    rows += [make_row("c", n, language="or", ovr=1.0, cer=0.9) for n in range(3)]
    (found,) = summarize(rows).reviews
    assert (found.language, found.reason, found.sentence) == ("ta", "mismatch", "It says <something> else.")
    assert (found.share, found.share_of_reason) == (pytest.approx(0.3), pytest.approx(1.0))

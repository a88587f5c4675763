"""Two revisions of the same segments side by side."""

import pytest

from tests.support.report_helpers import RULES, make_row, write_shards
from validation.analysis.explore.database import prepare_database
from validation.analysis.explore.revisions import Difference, RevisionChange, RevisionComparison
from validation.analysis.selection.sources import find_in_folder


@pytest.fixture
def compare(tmp_path):
    """Return a function that compares the rows of an earlier revision with present rows."""
    opened = []

    def compare_rows(earlier, now):
        paths = []
        for name, rows in (("earlier", earlier), ("now", now)):
            write_shards(tmp_path / name, rows)
            paths.append(prepare_database(find_in_folder(tmp_path / name), RULES, tmp_path / "cache"))
        opened.append(RevisionComparison("r0", *paths))
        return opened[0]

    yield compare_rows
    opened[0].close()


def test_segments_are_compared_under_the_same_rules(compare):
    """Both revisions are judged by the rules of the page; a segment that one revision lacks is not compared."""
    before = [make_row("a", 0), make_row("a", 1, ovr=1.0), make_row("gone", 0)]
    comparison = compare(before, [make_row("a", 0), make_row("a", 1, ovr=3.0), make_row("new", 0)])
    assert comparison.count_changes(RULES) == [
        RevisionChange("accept", "accept", 1, pytest.approx(2 / 3600)),
        RevisionChange("reject", "accept", 1, pytest.approx(2 / 3600)),
    ]
    lenient = RULES.with_rules(RULES.rules[1:], "lenient")
    assert [(each.earlier, each.now) for each in comparison.count_changes(lenient)] == [("accept", "accept")]


def test_changed_verdicts_come_before_changed_texts(compare):
    """A segment whose verdict and texts are equal is not listed."""
    before = [make_row("a", 0, ear_text="one"), make_row("a", 1, ovr=1.0), make_row("a", 2)]
    found = compare(before, [make_row("a", 0, ear_text="two"), make_row("a", 1), make_row("a", 2)]).find_changed(RULES)
    assert [(row["segment_index"], row["earlier"], row["now"]) for row in found] == [
        (1, "reject", "accept"),
        (0, "accept", "accept"),
    ]
    assert (found[1]["ear_text earlier"], found[1]["ear_text now"]) == ("one", "two")


def test_a_segment_shows_the_columns_that_differ(compare):
    """Equal columns are left out, and so are the stored verdicts, which other rules may have given."""
    comparison = compare([make_row("a", 0, ovr=1.0, ear_text=None)], [make_row("a", 0), make_row("b", 0)])
    row = make_row("a", 0) | {"stored_verdict": "accept"}
    assert sorted(comparison.find_differences(row)) == [
        Difference("ear_text", None, "what was heard"),
        Difference("scale_ovr", 1.0, 3.0),
    ]
    assert comparison.find_differences(make_row("b", 0)) is None

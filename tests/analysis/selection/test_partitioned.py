"""Revisions are joined one range of videos at a time, with the same result as in one join."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from validation.analysis.report.findings import gather_findings
from validation.analysis.report.signals import Signal
from validation.analysis.selection import partitioned
from validation.analysis.selection.partitioned import open_revisions
from validation.analysis.selection.revisions import KEY, Revision, overlay_revisions
from validation.analysis.selection.summary import summarize_selection
from validation.analysis.selection.verdicts import apply_rules
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

ROLES = SuiteRoles(("ear", "nose"), lid_models=("ear", "nose"))
COLUMNS = {"ear": ("ear_peak", "ear_language", "ear_declared_p"), "nose": ("nose_age",)}
VIDEOS = st.dictionaries(st.sampled_from("abcdeé𝒇"), st.integers(1, 3), max_size=6)


def make_revision(models, videos, stamp: float) -> Revision:
    """The rows of some videos with the given number of segments; every value is the revision's stamp."""
    rows = [(video, index) for video, segments in videos.items() for index in range(segments)]
    frame = pl.DataFrame(rows, schema={"video_id": pl.String, "segment_index": pl.Int64}, orient="row")
    own = {name: pl.lit("hi" if name.endswith("language") else stamp) for model in models for name in COLUMNS[model]}
    faults = {f"{model}_fault": pl.lit(None, pl.String) for model in models}
    said = {"language_code": pl.lit("hi"), "verdict": pl.lit("accept"), "reasons": pl.lit([], pl.List(pl.String))}
    return Revision(models, frame.with_columns(**said, **own, **faults).lazy())


REVISIONS = st.lists(
    st.tuples(st.sampled_from([("ear", "nose"), ("ear",), ("nose",)]), VIDEOS), min_size=2, max_size=4
).map(lambda drawn: [make_revision(models, videos, float(stamp)) for stamp, (models, videos) in enumerate(drawn)])


@settings(max_examples=60, deadline=None)
@given(revisions=REVISIONS, rows=st.integers(1, 9))
def test_partitioned_overlay_equals_one_join(revisions, rows):
    """For any revisions and any part size, also if later revisions replace earlier ones within a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioned, "MAX_PART_ROWS", rows)
        found = open_revisions(revisions, ROLES)
        plain = overlay_revisions(revisions, ROLES)
        assert_frame_equal(found.collect().sort(KEY), plain.collect().sort(KEY))
        one = pl.col("video_id") == "b"
        assert_frame_equal(found.filter(one).collect().sort(KEY), plain.filter(one).collect().sort(KEY))
        names = ["nose_age", "video_id"] if "nose_age" in plain.collect_schema() else ["ear_peak", "video_id"]
        assert_frame_equal(
            found.filter(pl.col(names[0]) > 0).select(names).collect().sort(names),
            plain.filter(pl.col(names[0]) > 0).select(names).collect().sort(names),
        )


def spy_on_parts(monkeypatch) -> list[list[tuple[str, ...]]]:
    """Record the models of the revisions of every part that is joined."""
    seen = []

    def join(revisions, roles, **options):
        if "schema" in options:
            seen.append([tuple(revision.models) for revision in revisions])
        return overlay_revisions(revisions, roles, **options)

    monkeypatch.setattr(partitioned, "overlay_revisions", join)
    return seen


def test_completely_replaced_revision_is_not_read(monkeypatch):
    """Replaced by one later revision or by several together; a revision with one video left is still read."""
    seen = spy_on_parts(monkeypatch)
    old = make_revision(("ear", "nose"), {"a": 2, "b": 2}, 0.0)
    ear, nose = make_revision(("ear",), {"a": 2, "b": 2}, 1.0), make_revision(("nose",), {"a": 2, "b": 2}, 2.0)
    open_revisions([old, make_revision(("ear", "nose"), {"a": 2, "b": 2}, 1.0)], ROLES).collect()
    open_revisions([old, ear, nose], ROLES).collect()
    open_revisions([old, make_revision(("ear", "nose"), {"a": 2}, 1.0)], ROLES).collect()
    assert [len(part) for part in seen] == [1, 2, 2]


def test_queries_collected_together_join_the_revisions_once(monkeypatch):
    """The report collects thirty queries; the revisions are not joined once per query."""
    seen = spy_on_parts(monkeypatch)
    rules = Rules(version="any", required_models=("ear",), rules=())
    rows = open_revisions([make_revision(("ear",), {"a": 2}, 0.0), make_revision(("nose",), {"a": 1}, 1.0)], ROLES)
    segments = apply_rules(
        rows.with_columns(
            fault=pl.lit(None, pl.String),
            duration_s=pl.lit(1.0),
            language=pl.lit("hi"),
            length_difference_s=pl.lit(None, pl.Float64),
        ),
        rules,
    )
    summarize_selection(segments, rules, ["accept"])
    assert len(seen) == 1
    seen.clear()
    gather_findings(segments, rules, [Signal("ear_peak", "", "", -1.0, 0.0, 1.0)], worst_per_reason=1, borderline=1)
    assert len(seen) <= 2


def test_filter_on_one_video_reads_only_its_part(monkeypatch):
    """A filter on the video id is applied before the parts are cut."""
    monkeypatch.setattr(partitioned, "MAX_PART_ROWS", 1)
    seen = spy_on_parts(monkeypatch)
    videos = dict.fromkeys("abcdef", 2)
    rows = open_revisions([make_revision(("ear",), videos, 0.0), make_revision(("nose",), videos, 1.0)], ROLES)
    assert len(rows.filter(pl.col("video_id") == "c").collect(engine="streaming")) == 2
    assert len(seen) == 1


@settings(max_examples=30, deadline=None)
@given(revisions=REVISIONS, rows=st.integers(1, 9))
def test_parts_stay_within_the_row_limit(revisions, rows):
    """A part exceeds ``MAX_PART_ROWS`` by at most one video."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioned, "MAX_PART_ROWS", rows)
        cut = list(partitioned._cut_parts(revisions, ROLES))
    for part in cut:
        held = pl.concat(revision.rows.select("video_id") for revision in part).collect()
        assert len(held) <= rows + held.group_by("video_id").len()["len"].max()

"""Layers are joined a range of videos at a time, and nobody can tell but by the memory that it takes."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from validation.analysis.report.findings import gather_findings
from validation.analysis.report.signals import Signal
from validation.analysis.selection import partitioned as parts
from validation.analysis.selection.partitioned import open_revisions
from validation.analysis.selection.revisions import KEY, Revision, overlay_revisions
from validation.analysis.selection.summary import tally_selection
from validation.analysis.selection.verdicts import judge_segments
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

ROLES = SuiteRoles(("ear", "nose"), lid_models=("ear", "nose"))
COLUMNS = {"ear": ("ear_peak", "ear_language", "ear_declared_p"), "nose": ("nose_age",)}
VIDEOS = st.dictionaries(st.sampled_from("abcdeé𝒇"), st.integers(1, 3), max_size=6)


def make_layer(models, videos, stamp: float) -> Revision:
    """The rows of some videos, each with as many segments as is said; every value tells its layer."""
    rows = [(video, index) for video, segments in videos.items() for index in range(segments)]
    frame = pl.DataFrame(rows, schema={"video_id": pl.String, "segment_index": pl.Int64}, orient="row")
    own = {name: pl.lit("hi" if name.endswith("language") else stamp) for model in models for name in COLUMNS[model]}
    faults = {f"{model}_fault": pl.lit(None, pl.String) for model in models}
    said = {"language_code": pl.lit("hi"), "verdict": pl.lit("accept"), "reasons": pl.lit([], pl.List(pl.String))}
    return Revision(models, frame.with_columns(**said, **own, **faults).lazy())


LAYERS = st.lists(
    st.tuples(st.sampled_from([("ear", "nose"), ("ear",), ("nose",)]), VIDEOS), min_size=2, max_size=4
).map(lambda drawn: [make_layer(models, videos, float(stamp)) for stamp, (models, videos) in enumerate(drawn)])


@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, rows=st.integers(1, 9))
def test_joined_by_parts_or_at_once_is_the_same(layers, rows):
    """Whatever the layers hold and however small the parts: also a part in which later layers replace earlier ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_ROWS", rows)
        found = open_revisions(layers, ROLES)
        plain = overlay_revisions(layers, ROLES)
        assert_frame_equal(found.collect().sort(KEY), plain.collect().sort(KEY))
        one = pl.col("video_id") == "b"
        assert_frame_equal(found.filter(one).collect().sort(KEY), plain.filter(one).collect().sort(KEY))
        names = ["nose_age", "video_id"] if "nose_age" in plain.collect_schema() else ["ear_peak", "video_id"]
        assert_frame_equal(
            found.filter(pl.col(names[0]) > 0).select(names).collect().sort(names),
            plain.filter(pl.col(names[0]) > 0).select(names).collect().sort(names),
        )


def spy_on_parts(monkeypatch) -> list[list[tuple[str, ...]]]:
    """The models of the layers of every part that is joined."""
    seen = []

    def join(layers, roles, **options):
        if "as_if_of" in options:
            seen.append([tuple(layer.models) for layer in layers])
        return overlay_revisions(layers, roles, **options)

    monkeypatch.setattr(parts, "overlay_revisions", join)
    return seen


def test_a_layer_that_later_ones_replace_is_not_read(monkeypatch):
    """By one that asked everything again, or by several that together did; not where a video is left over."""
    seen = spy_on_parts(monkeypatch)
    old = make_layer(("ear", "nose"), {"a": 2, "b": 2}, 0.0)
    ear, nose = make_layer(("ear",), {"a": 2, "b": 2}, 1.0), make_layer(("nose",), {"a": 2, "b": 2}, 2.0)
    open_revisions([old, make_layer(("ear", "nose"), {"a": 2, "b": 2}, 1.0)], ROLES).collect()
    open_revisions([old, ear, nose], ROLES).collect()
    open_revisions([old, make_layer(("ear", "nose"), {"a": 2}, 1.0)], ROLES).collect()
    assert [len(part) for part in seen] == [1, 2, 2]


def test_plans_that_are_collected_together_are_read_together(monkeypatch):
    """A page asks thirty questions: the shards are not joined once for each."""
    seen = spy_on_parts(monkeypatch)
    rules = Rules(version="any", required_models=("ear",), rules=())
    rows = open_revisions([make_layer(("ear",), {"a": 2}, 0.0), make_layer(("nose",), {"a": 1}, 1.0)], ROLES)
    judged = judge_segments(
        rows.with_columns(fault=pl.lit(None, pl.String), duration_s=pl.lit(1.0), language=pl.lit("hi")), rules
    )
    tally_selection(judged, rules, ["accept"])
    assert len(seen) == 1
    seen.clear()
    gather_findings(judged, rules, [Signal("ear_peak", "", "", -1.0, 0.0, 1.0)], worst_a_reason=1, borderline=1)
    assert len(seen) <= 2


def test_whoever_asks_for_one_video_reads_that_alone(monkeypatch):
    """However many parts the corpus has."""
    monkeypatch.setattr(parts, "PART_ROWS", 1)
    seen = spy_on_parts(monkeypatch)
    videos = dict.fromkeys("abcdef", 2)
    rows = open_revisions([make_layer(("ear",), videos, 0.0), make_layer(("nose",), videos, 1.0)], ROLES)
    assert len(rows.filter(pl.col("video_id") == "c").collect(engine="streaming")) == 2
    assert len(seen) == 1


@settings(max_examples=30, deadline=None)
@given(layers=LAYERS, rows=st.integers(1, 9))
def test_no_part_holds_more_than_it_may(layers, rows):
    """So many rows of all layers together, or one video's: however large the corpus, that is what is joined at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_ROWS", rows)
        cut = list(parts._cut_parts(layers, ROLES))
    for part in cut:
        held = pl.concat(layer.rows.select("video_id") for layer in part).collect()
        assert len(held) <= rows + held.group_by("video_id").len()["len"].max()

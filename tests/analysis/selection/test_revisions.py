"""A new revision of one model: only this model runs, its shards hold its columns, and reading joins the shards."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.support.ledger_helpers import fetch
from validation.analysis.report.findings import gather_findings
from validation.analysis.report.signals import Signal
from validation.analysis.selection import revisions
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.revisions import KEY, Revision, _split_by_videos, open_revisions, overlay_revisions
from validation.analysis.selection.sources import find_committed_shards
from validation.analysis.selection.summary import summarize_selection
from validation.analysis.selection.verdicts import apply_rules
from validation.control.audit import audit
from validation.domain import Column, Scored
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules
from validation.worker.chunk.context import run_chunk


def read_segments(pair, **options):
    source = find_committed_shards(pair.box.engine, "pair", pair.session.settings, **options)
    return apply_rules(open_segments(source), pair.scorer.rules).collect().sort(KEY)


def test_only_missing_models_run_and_reading_joins_revisions(pair):
    """The old answers of `ear` joined with the new answers of `nose` equal a run of the whole new suite."""
    pair.box.add_videos("a", "b", "c")
    run_chunk(pair.session)
    pair.upgrade("2")
    requeue_videos(pair.box.engine, Requeue(["a", "b"], lacking={"nose": "2"}))
    run_chunk(pair.session)
    assert pair.scorer.runs == {"ear": 0, "nose": 4}
    joined = read_segments(pair)
    assert list(audit(pair.box.engine, pair.session.results)) == []

    requeue_videos(pair.box.engine, Requeue(["a", "b"]))
    run_chunk(pair.session)
    complete = read_segments(pair)
    assert_frame_equal(joined, complete, check_column_order=False)
    assert dict(zip(joined["video_id"], joined["nose_age"], strict=True)) == {"a": 2.0, "b": 2.0, "c": 1.0}
    assert joined["language_votes_against"].to_list() == [1, 1, 1, 1, 0, 0]
    assert joined["verdict"].to_list() == ["review"] * 4 + ["accept"] * 2


def test_shard_of_a_subset_of_models_accepts_nothing(pair):
    """Its reason is `partial`, and the ledger counts neither its verdicts nor its hours a second time."""
    pair.box.add_videos("a")
    run_chunk(pair.session)
    pair.upgrade("2")
    requeue_videos(pair.box.engine, Requeue(lacking={"nose": "2"}))
    run_chunk(pair.session)
    newest = max(read_committed_shards(pair.box.engine), key=lambda shard: shard.closed_at)
    assert newest.models == {"nose": "2"}
    rows = pl.read_parquet(
        f"s3://{pair.session.settings.results_url[5:]}/{newest.shard_key}", storage_options=_options(pair)
    )
    assert rows["reasons"].to_list() == [["partial"]] * 2
    assert not [name for name in rows.columns if name.startswith("ear_")]
    ((segments, verdicts, hours),) = fetch(
        pair.box.engine,
        "SELECT sum(segments), count(segments_review), count(audio_s) FROM validation_chunks WHERE state = 'committed'",
    )
    assert (segments, verdicts, hours) == (4, 1, 1)


def _options(pair):
    return find_committed_shards(pair.box.engine, "pair", pair.session.settings).storage_options


def test_model_added_later_has_a_fault_for_older_segments(pair):
    """The new model's fault is `not_asked` for segments that it did not score; null would mean an abstention."""
    pair.box.add_videos("a", "b")
    whole, pair.session = pair.session, pair.session
    columns, revisions = dict(whole.scorer.columns), dict(whole.scorer.revisions)
    whole.scorer.columns, whole.scorer.revisions = {"ear": columns["ear"]}, {"ear": "1"}
    whole.scorer.score = lambda utterances: [{"ear": whole.scorer._ear(u)} for u in utterances]
    whole.scorer.roles = type(whole.scorer.roles)(("ear",), lid_models=("ear",))
    run_chunk(whole)
    pair.upgrade("1")
    requeue_videos(pair.box.engine, Requeue(["a"], lacking={"nose": None}))
    run_chunk(pair.session)

    faults = read_segments(pair).select("video_id", "nose_fault", "ear_fault").unique("video_id").sort("video_id")
    assert faults["nose_fault"].is_null().to_list() == [True, False]
    assert faults["nose_fault"][1].startswith("not_asked: ")
    assert faults["ear_fault"].null_count() == 2
    assert revisions == pair.scorer.revisions


def test_revalidated_video_is_read_once(pair):
    """After a second run of the same revision, the newer rows are read; other videos of the older shard still are."""
    pair.box.add_videos("a", "b")
    run_chunk(pair.session)
    requeue_videos(pair.box.engine, Requeue(["a"]))
    run_chunk(pair.session)
    assert read_segments(pair).select(KEY).rows() == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    ((worker, processed),) = fetch(
        pair.box.engine, "SELECT worker_id, videos_processed FROM worker_validators WHERE worker_id = 'ann'"
    )
    assert (worker, processed) == ("ann", 3)


def test_revision_option_leaves_out_later_revisions(pair):
    """By default the revision that began last is read, even if an older one was committed after it."""
    pair.box.add_videos("a")
    run_chunk(pair.session)
    first = read_committed_shards(pair.box.engine)[0].revision
    pair.upgrade("2")
    requeue_videos(pair.box.engine, Requeue(["a"]))
    run_chunk(pair.session)
    pair.upgrade("1")
    requeue_videos(pair.box.engine, Requeue(["a"]))
    run_chunk(pair.session)
    assert read_segments(pair)["nose_age"].to_list() == [2.0, 2.0]
    assert read_segments(pair, up_to=first)["nose_age"].to_list() == [1.0, 1.0]


def test_shards_of_two_schema_versions_are_read_together(pair, monkeypatch):
    """A column that the older version lacks is null in its rows; no column of either version is lost."""
    pair.box.add_videos("a", "b")
    run_chunk(pair.session, size=1)
    grown = Column("wet", "float", "ratio", "How wet it is.")
    pair.scorer.columns["nose"] = (*pair.scorer.columns["nose"], grown)
    monkeypatch.setattr(
        pair.scorer, "_nose", lambda: Scored({"age": 1.0, "language": "hi", "declared_p": 0.5, "wet": 0.7})
    )
    run_chunk(pair.session, size=1)
    assert sorted(read_segments(pair)["nose_wet"].to_list(), key=str) == [0.7, 0.7, None, None]


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
        patch.setattr("validation.analysis.selection.revisions.MAX_PART_ROWS", rows)
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

    monkeypatch.setattr(revisions, "overlay_revisions", join)
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
    monkeypatch.setattr(revisions, "MAX_PART_ROWS", 1)
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
        patch.setattr("validation.analysis.selection.revisions.MAX_PART_ROWS", rows)
        cut = list(_split_by_videos(revisions, ROLES))
    for part in cut:
        held = pl.concat(revision.rows.select("video_id") for revision in part).collect()
        assert len(held) <= rows + held.group_by("video_id").len()["len"].max()

"""A new revision of one model: only this model runs, its shards hold its columns, and reading joins the shards."""

import polars as pl
from polars.testing import assert_frame_equal

from tests.support.ledger_helpers import fetch
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.revisions import KEY
from validation.analysis.selection.sources import find_committed
from validation.analysis.selection.verdicts import apply_rules
from validation.control.audit import audit
from validation.domain import Column, Scored
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.worker.chunk.context import run_chunk


def read_segments(pair, **options):
    source = find_committed(pair.box.engine, "pair", pair.session.settings, **options)
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
    return find_committed(pair.box.engine, "pair", pair.session.settings).storage_options


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

"""Fewer, larger shards, and readers who notice nothing."""

from datetime import timedelta
from itertools import islice

import polars as pl
import pytest

from tests.support.ledger_helpers import execute
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_committed
from validation.control.audit import audit
from validation.control.compact import compact_all, compact_group, compact_steps, delete_retired, plan_compactions
from validation.control.sweep import delete_orphans
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards, read_retired_shards
from validation.shards.errors import ShardCorrupt
from validation.shards.manifest import ShardManifest
from validation.shards.naming import sibling_key
from validation.storage.store import delete_object, get_bytes, list_keys, put_once
from validation.worker.chunk.run import run_chunk

NOW = timedelta(seconds=-5)
"""A margin that makes objects of this moment old enough to be orphans."""


def read_rows(box) -> pl.DataFrame:
    source = find_committed(box.engine, "tiny", box.session.settings)
    return open_segments(source).collect().sort("video_id", "segment_index")


def findings(box) -> list[str]:
    return list(audit(box.engine, box.session.results, orphan_margin=NOW))


@pytest.fixture
def three(box):
    """Three shards of two videos each, of which one is superseded in the first."""
    box.add_videos(*"abcdef")
    for _ in range(3):
        run_chunk(box.session, size=2)
    first = read_committed_shards(box.engine)[0]
    manifest = ShardManifest.from_json(get_bytes(box.session.results, sibling_key(first.shard_key)), "m")
    requeue_videos(box.engine, Requeue([manifest.videos[0].video_id]))
    run_chunk(box.session)
    return box


def test_one_shard_stands_for_many(three):
    """The same rows to the reader, in one file that is sound; the old files are kept until asked for."""
    before, keys = read_rows(three), set(list_keys(three.session.results))
    ((group, made),) = compact_all(three.engine, three.session.results)
    assert len(group) == 4
    assert [shard.shard_key for shard in read_committed_shards(three.engine)] == [made.key]
    assert read_rows(three).equals(before)
    assert set(list_keys(three.session.results)) == keys | {made.key, sibling_key(made.key)}
    assert len(read_retired_shards(three.engine)) == 4
    assert findings(three) == []
    assert list(compact_all(three.engine, three.session.results)) == []


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_compaction_may_end_after_any_step(three, steps):
    """Whatever was done last, readers find each segment once, what is left over is swept, and the next try succeeds."""
    before = read_rows(three)
    (group,) = plan_compactions(three.session.results, read_committed_shards(three.engine))
    assert len(list(islice(compact_steps(three.engine, three.session.results, group), steps))) == steps

    assert read_rows(three).equals(before)
    left = delete_orphans(three.engine, three.session.results, margin=NOW)
    assert len(left) == {1: 0, 2: 1, 3: 2, 4: 0}[steps]
    assert findings(three) == []
    list(compact_all(three.engine, three.session.results))
    assert read_rows(three).equals(before)
    assert len(read_committed_shards(three.engine)) == 1
    assert findings(three) == []


def test_a_video_that_is_validated_again_meanwhile_stops_the_compaction(three):
    """Its new rows are the current ones; the compacted shard, which has the old, is taken back."""
    (group,) = plan_compactions(three.session.results, read_committed_shards(three.engine))
    steps = compact_steps(three.engine, three.session.results, group)
    for _ in range(3):
        made = next(steps)
    requeue_videos(three.engine, Requeue(["a"]))
    run_chunk(three.session)
    after = read_rows(three)

    assert list(steps) == [None]
    assert made.key not in set(list_keys(three.session.results))
    assert read_rows(three).equals(after)
    assert findings(three) == []


def test_shards_of_different_making_stay_apart(box):
    """Another suite, another revision or other rules are other shards."""
    box.add_videos(*"abcd")
    for suite, revision in (("tiny", "1"), ("tiny", "2"), ("huge", "1"), ("tiny", "1")):
        box.scorer.name, box.scorer.revisions = suite, {"ear": revision}
        run_chunk(box.session, size=1)
    ((group, _),) = compact_all(box.engine, box.session.results)
    assert {(shard.suite, shard.models["ear"]) for shard in group} == {("tiny", "1")}
    assert len(read_committed_shards(box.engine)) == 3


def test_groups_fill_up_to_the_target_and_large_shards_are_left(three):
    """What is large enough is not read."""
    shards = read_committed_shards(three.engine)
    assert plan_compactions(three.session.results, shards, target_bytes=1) == []
    largest = max(shard.shard_bytes for shard in shards)
    groups = plan_compactions(three.session.results, shards, target_bytes=2 * largest)
    assert groups
    assert all(sum(shard.shard_bytes for shard in group[:-1]) < 2 * largest for group in groups)


def test_what_failed_is_told_on(box):
    """The manifest of the larger shard outlives those of the chunks; what was validated since is no failure."""
    box.add_videos(*"abc")
    for video in "bc":
        delete_object(box.session.source, f"{video}.tar")
        put_once(box.session.source, f"{video}.tar", b"no tar")
    run_chunk(box.session)
    requeue_videos(box.engine, Requeue(["c"]))
    delete_object(box.session.source, "c.tar")
    box.add_videos("c", "d")
    run_chunk(box.session)
    ((_, made),) = compact_all(box.engine, box.session.results)
    kept = ShardManifest.from_json(get_bytes(box.session.results, sibling_key(made.key)), "m")
    assert [failure.video_id for failure in kept.failed] == ["b"]


def test_old_shards_go_only_when_asked_and_after_their_time(three):
    """A reader who took its list before the compaction has a day to finish."""
    list(compact_all(three.engine, three.session.results))
    before = read_rows(three)
    assert delete_retired(three.engine, three.session.results, older_than_s=3600) == []
    execute(three.engine, "UPDATE validation_results SET superseded_at = superseded_at - interval '2 h'")
    assert len(delete_retired(three.engine, three.session.results, older_than_s=3600)) == 4
    assert len(list(list_keys(three.session.results))) == 2
    assert read_rows(three).equals(before)
    assert findings(three) == []


def test_a_deletion_that_was_cut_short_is_finished_by_the_sweep(three, monkeypatch):
    """The ledger gives a shard up before its object goes."""
    list(compact_all(three.engine, three.session.results))
    monkeypatch.setattr("validation.control.compact.delete_object", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        delete_retired(three.engine, three.session.results, older_than_s=-10)
    assert len(delete_orphans(three.engine, three.session.results, margin=NOW)) == 8
    assert findings(three) == []


def test_a_corrupt_shard_is_not_compacted(three):
    """Nothing that is not what was committed gets a new name and a new hash."""
    execute(three.engine, "UPDATE validation_shards SET shard_sha256 = repeat('0', 64)")
    (group,) = plan_compactions(three.session.results, read_committed_shards(three.engine))
    with pytest.raises(ShardCorrupt, match="sha256"):
        compact_group(three.engine, three.session.results, group)
    assert len(read_committed_shards(three.engine)) == 4

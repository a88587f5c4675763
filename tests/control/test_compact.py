"""Compaction of real shards, which readers do not notice."""

from datetime import timedelta
from itertools import islice

import polars as pl
import pytest

from tests.support.ledger_helpers import execute
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_committed_shards
from validation.control.audit import audit, delete_orphans
from validation.control.compact import compact_all, compact_group, compact_steps, delete_retired, plan_compactions
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards, read_retired_shards
from validation.shards.manifest import ShardManifest
from validation.shards.naming import manifest_key_of
from validation.shards.schema import ShardCorrupt
from validation.storage.store import delete_object, get_bytes, list_keys, put_if_absent
from validation.worker.chunk.context import run_chunk

NOW = timedelta(seconds=-5)
"""A margin that makes objects of this moment old enough to be orphans."""


def read_rows(box) -> pl.DataFrame:
    source = find_committed_shards(box.engine, "tiny", box.context.settings)
    return open_segments(source).collect().sort("video_id", "segment_index")


def findings(box) -> list[str]:
    return list(audit(box.engine, box.context.results, orphan_margin=NOW))


@pytest.fixture
def three(box):
    """Three shards of two videos each, of which one is superseded in the first."""
    box.add_videos(*"abcdef")
    for _ in range(3):
        run_chunk(box.context, size=2)
    first = read_committed_shards(box.engine)[0]
    manifest = ShardManifest.from_json(get_bytes(box.context.results, manifest_key_of(first.shard_key)), "m")
    requeue_videos(box.engine, Requeue([manifest.videos[0].video_id]))
    run_chunk(box.context)
    return box


def test_compaction_replaces_many_shards_by_one(three):
    """The same rows to the reader, in one sound file; the old files are kept until they are purged."""
    before, keys = read_rows(three), set(list_keys(three.context.results))
    ((group, made),) = compact_all(three.engine, three.context.results)
    assert len(group) == 4
    assert [shard.shard_key for shard in read_committed_shards(three.engine)] == [made.key]
    assert read_rows(three).equals(before)
    assert set(list_keys(three.context.results)) == keys | {made.key, manifest_key_of(made.key)}
    assert len(read_retired_shards(three.engine)) == 4
    assert findings(three) == []
    assert list(compact_all(three.engine, three.context.results)) == []


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_compaction_may_be_cut_off_after_any_step(three, steps):
    """Readers find each segment once, leftovers are swept, and the next try succeeds."""
    before = read_rows(three)
    (group,) = plan_compactions(three.context.results, read_committed_shards(three.engine))
    assert len(list(islice(compact_steps(three.engine, three.context.results, group), steps))) == steps

    assert read_rows(three).equals(before)
    left = delete_orphans(three.engine, three.context.results, margin=NOW)
    assert len(left) == {1: 0, 2: 1, 3: 2, 4: 0}[steps]
    assert findings(three) == []
    list(compact_all(three.engine, three.context.results))
    assert read_rows(three).equals(before)
    assert len(read_committed_shards(three.engine)) == 1
    assert findings(three) == []


def test_video_validated_again_meanwhile_stops_the_compaction(three):
    """The video's new rows are current, and the compacted shard with its old rows is deleted."""
    (group,) = plan_compactions(three.context.results, read_committed_shards(three.engine))
    steps = compact_steps(three.engine, three.context.results, group)
    for _ in range(3):
        made = next(steps)
    requeue_videos(three.engine, Requeue(["a"]))
    run_chunk(three.context)
    after = read_rows(three)

    assert list(steps) == [None]
    assert made.key not in set(list_keys(three.context.results))
    assert read_rows(three).equals(after)
    assert findings(three) == []


def test_compaction_keeps_suites_revisions_and_rules_apart(box):
    """Another suite, another revision or other rules make another shard."""
    box.add_videos(*"abcd")
    for suite, revision in (("tiny", "1"), ("tiny", "2"), ("huge", "1"), ("tiny", "1")):
        box.scorer.name, box.scorer.revisions = suite, {"ear": revision}
        run_chunk(box.context, size=1)
    ((group, _),) = compact_all(box.engine, box.context.results)
    assert {(shard.suite, shard.models["ear"]) for shard in group} == {("tiny", "1")}
    assert len(read_committed_shards(box.engine)) == 3


def test_groups_fill_up_to_the_target_size_without_large_shards(three):
    """A large shard is not read."""
    shards = read_committed_shards(three.engine)
    assert plan_compactions(three.context.results, shards, target_bytes=1) == []
    largest = max(shard.shard_bytes for shard in shards)
    groups = plan_compactions(three.context.results, shards, target_bytes=2 * largest)
    assert groups
    assert all(sum(shard.shard_bytes for shard in group[:-1]) < 2 * largest for group in groups)


def test_failed_videos_stay_in_the_compacted_manifest(box):
    """The compacted manifest lists them; a video that was validated since is not among them."""
    box.add_videos(*"abc")
    for video in "bc":
        delete_object(box.context.source, f"{video}.tar")
        put_if_absent(box.context.source, f"{video}.tar", b"no tar")
    run_chunk(box.context)
    requeue_videos(box.engine, Requeue(["c"]))
    delete_object(box.context.source, "c.tar")
    box.add_videos("c", "d")
    run_chunk(box.context)
    ((_, made),) = compact_all(box.engine, box.context.results)
    kept = ShardManifest.from_json(get_bytes(box.context.results, manifest_key_of(made.key)), "m")
    assert [failure.video_id for failure in kept.failed] == ["b"]


def test_retired_shards_are_deleted_only_after_their_time(three):
    """A reader that listed the shards before the compaction has a day to finish."""
    list(compact_all(three.engine, three.context.results))
    before = read_rows(three)
    assert delete_retired(three.engine, three.context.results, older_than_s=3600) == []
    execute(three.engine, "UPDATE validation_results SET superseded_at = superseded_at - interval '2 h'")
    assert len(delete_retired(three.engine, three.context.results, older_than_s=3600)) == 4
    assert len(list(list_keys(three.context.results))) == 2
    assert read_rows(three).equals(before)
    assert findings(three) == []


def test_deletion_that_was_cut_off_is_finished_by_the_sweep(three, monkeypatch):
    """The ledger marks a shard deleted before its object is deleted."""
    list(compact_all(three.engine, three.context.results))
    monkeypatch.setattr("validation.shards.manifest.delete_object", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        delete_retired(three.engine, three.context.results, older_than_s=-10)
    assert len(delete_orphans(three.engine, three.context.results, margin=NOW)) == 8
    assert findings(three) == []


def test_corrupt_shard_is_not_compacted(three):
    """A shard that differs from what was committed gets no new key and checksum."""
    execute(three.engine, "UPDATE validation_shards SET shard_sha256 = repeat('0', 64)")
    (group,) = plan_compactions(three.context.results, read_committed_shards(three.engine))
    with pytest.raises(ShardCorrupt, match="sha256"):
        compact_group(three.engine, three.context.results, group)
    assert len(read_committed_shards(three.engine)) == 4

"""Orphan objects of the results bucket, and the audit of a running fleet."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.ledger_helpers import execute, fetch, shard
from tests.support.store_helpers import damage_object
from validation.control.audit import audit, find_orphans
from validation.control.sweep import sweep
from validation.ledger.chunks import commit_chunk
from validation.ledger.queries import read_committed_shards, read_open_chunks
from validation.storage.store import delete_object, list_keys, put_if_absent
from validation.worker.chunk.context import run_chunk

NOW = timedelta(seconds=-5)
"""A margin that makes objects of this moment old enough."""


def test_orphans_are_objects_of_no_chunk(box):
    """Shards of committed chunks and of chunks that may still commit are no orphans; leftovers are."""
    box.add_videos("a", "b")
    run_chunk(box.context, size=1)
    open_chunk = box.context.claim(uuid4(), flow_run_id=None, size=1, languages=())
    stem = "shards/ann/validation_ann_shard_"
    leftovers = [f"{stem}0009.manifest.json", f"{stem}0009.parquet"]
    for key in (*leftovers, f"{stem}{open_chunk.shard_number:04d}.parquet"):
        put_if_absent(box.context.results, key, b"x")
    assert find_orphans(box.engine, box.context.results, margin=NOW) == leftovers


def test_shard_committed_during_the_listing_is_no_orphan(box, monkeypatch):
    """Between two reads of the ledger the chunk is found open or committed, never neither."""
    box.add_videos("a")
    chunk = box.context.claim(uuid4(), flow_run_id=None, size=1, languages=())
    receipt = shard(of=chunk)
    put_if_absent(box.context.results, receipt.key, b"x")
    waiting = [chunk.chunk_id]

    def read_then_commit(read):
        def reading(engine):
            seen = read(engine)
            if waiting:
                commit_chunk(engine, waiting.pop(), shard=receipt, validated={"a": 3}, failed=[], max_attempts=3)
            return seen

        return reading

    for read in (read_open_chunks, read_committed_shards):
        monkeypatch.setattr(f"validation.control.audit.{read.__name__}", read_then_commit(read))
    assert find_orphans(box.engine, box.context.results, margin=NOW) == []
    assert waiting == []


def test_frequent_sweep_deletes_no_orphans(box):
    """The sweep of every 20 s leaves orphans to the hourly sweep."""
    put_if_absent(box.context.results, "shards/ann/validation_ann_shard_0009.parquet", b"x")
    assert sweep(box.engine, box.context.results, orphans=False).is_empty


def test_young_object_is_never_an_orphan(box):
    """An object younger than the margin may belong to a commit that has not finished."""
    put_if_absent(box.context.results, "shards/ann/validation_ann_shard_0009.parquet", b"x")
    report = sweep(box.engine, box.context.results)
    assert report.is_empty
    assert len(list(list_keys(box.context.results, "shards"))) == 1


def test_audit_of_a_sound_fleet_finds_nothing(box):
    """Committed shards without damage give no finding."""
    box.add_videos(*"abcd")
    run_chunk(box.context, size=2)
    run_chunk(box.context, size=2)
    assert list(audit(box.engine, box.context.results, orphan_margin=NOW)) == []


def damage_missing(box, key):
    delete_object(box.context.results, key)


def damage_bytes(box, key):
    damage_object(box.context.results, key)


def damage_hash(box, _key):
    execute(box.engine, "UPDATE validation_shards SET shard_sha256 = repeat('0', 64)")


def damage_count(box, _key):
    execute(box.engine, "UPDATE validation_results SET segments = segments + 1 WHERE video_id = 'a'")


def damage_orphan(box, key):
    put_if_absent(box.context.results, key.replace("0001", "0777"), b"x")


DAMAGES = {
    damage_missing: "does not exist",
    damage_bytes: "sha256",
    damage_hash: "the ledger committed sha256",
    damage_count: "video a has 2 rows, the ledger says 3",
    damage_orphan: "orphan object",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_audit_names_damage(box, damage):
    """The audit names an object that was lost, altered or added."""
    box.add_videos("a", "b")
    run_chunk(box.context)
    ((key,),) = fetch(box.engine, "SELECT shard_key FROM validation_chunks")
    damage(box, key)
    assert any(DAMAGES[damage] in finding for finding in audit(box.engine, box.context.results, orphan_margin=NOW))

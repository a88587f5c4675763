"""A ledger restored from a backup, a new ledger on a used bucket, lost and altered objects: `vfleet repair`."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.ledger_helpers import execute, fetch, statuses
from tests.support.result_helpers import violated_invariants
from tests.support.store_helpers import damage_object
from validation.control.audit import audit, delete_orphans
from validation.control.compact import compact_all, delete_retired
from validation.control.repair import ChunksOpen, repair
from validation.control.sweep import sweep
from validation.domain import Video, WorkerProfile
from validation.ledger.queries import read_committed_shards, read_view
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.storage.store import delete_object, get_bytes, list_keys
from validation.worker.chunk.context import run_chunk

NOW = timedelta(seconds=-5)
"""A margin that makes objects of this moment old enough to be orphans."""
TABLES = (
    "video_queue", "worker_validators", "validation_chunks", "validation_shards", "validation_results",
)  # fmt: skip


@pytest.fixture
def backup(box):
    """Copies the ledger's tables when called; the result restores them."""

    def back_up():
        for table in TABLES:
            execute(box.engine, f"DROP TABLE IF EXISTS backup_{table}; CREATE TABLE backup_{table} AS TABLE {table}")

        def restore():
            execute(box.engine, f"TRUNCATE {', '.join(TABLES)}, validation.canary_evaluations")
            for table in TABLES:
                columns = ", ".join(
                    name for (name,) in fetch(
                        box.engine, "SELECT attname FROM pg_attribute WHERE attrelid = CAST(:t AS regclass) "
                        "AND attnum > 0 AND attgenerated = '' AND NOT attisdropped", t=table)
                )  # fmt: skip
                execute(box.engine, f"INSERT INTO {table} ({columns}) SELECT {columns} FROM backup_{table}")

        return restore

    return back_up


def rows(box):
    """Which video is current in which shard."""
    view = read_view(box.engine, "shard_videos")
    return {row["video_id"]: row["shard_key"] for row in view if not row["superseded"]}


def actions(box, **options):
    return sorted(
        (each.action, each.shard_key, each.videos) for each in repair(box.engine, box.context.results, **options)
    )


def findings(box):
    return list(audit(box.engine, box.context.results, orphan_margin=NOW))


@pytest.mark.attack
def test_shards_committed_after_the_backup_are_restored(box, backup):
    """No result is lost, no video is validated twice, and the ledger's invariants hold."""
    box.add_videos(*"abcd")
    run_chunk(box.context, size=1)
    restore = backup()
    run_chunk(box.context, size=2)
    before, counters = rows(box), fetch(box.engine, "SELECT videos_processed, shards_uploaded FROM worker_validators "
                                        "WHERE worker_id = 'ann'")  # fmt: skip
    restore()
    assert len(rows(box)) == 1
    assert any("`vfleet repair`" in finding for finding in findings(box))
    (todo,) = actions(box, dry_run=True)
    assert len(rows(box)) == 1, "a dry run changes nothing"
    assert actions(box) == [todo]
    assert todo[0] == "restored"
    assert todo[2] == 2
    assert rows(box) == before
    assert fetch(box.engine, "SELECT videos_processed, shards_uploaded FROM worker_validators "
                 "WHERE worker_id = 'ann'") == counters  # fmt: skip
    assert sorted(statuses(box.engine).values()) == ["pending", "validated", "validated", "validated"]
    assert findings(box) == []
    assert actions(box) == []


def test_sweep_deletes_no_shard_that_the_ledger_does_not_know(box, backup):
    """It may be the only copy of its results: the sweep reports it, and the audit names the command."""
    box.add_videos("a")
    restore = backup()
    run_chunk(box.context)
    restore()
    before = set(list_keys(box.context.results, "shards"))
    assert delete_orphans(box.engine, box.context.results, margin=NOW) == []
    report = sweep(box.engine, box.context.results)
    assert not report.orphans
    assert set(list_keys(box.context.results, "shards")) == before
    assert any("`vfleet repair`" in finding for finding in findings(box))


def test_shard_of_a_chunk_that_was_open_in_the_backup_is_restored(box, backup, monkeypatch):
    """The chunk expires, as its holder is gone, and its shard is recorded."""
    box.add_videos("a", "b")
    token = uuid4()
    box.context.claim(token, flow_run_id=None, size=2, languages=())
    restore = backup()
    monkeypatch.setattr("validation.worker.chunk.context.uuid4", lambda: token)  # the claim is found again
    run_chunk(box.context, size=2)
    restore()
    with pytest.raises(ChunksOpen, match="ann"):
        actions(box)
    execute(box.engine, "UPDATE validation_chunks SET lease_expires_at = now() - interval '1 s' WHERE state = 'open'")
    assert [action for action, _, _ in actions(box)] == ["restored"]
    assert set(statuses(box.engine).values()) == {"validated"}
    assert findings(box) == []


def test_results_written_since_the_restore_win(box, backup):
    """A video that was validated again stays in its newer shard; the older one has the others."""
    box.add_videos("a", "b")
    restore = backup()
    run_chunk(box.context, size=2)
    restore()
    execute(box.engine, "UPDATE video_queue SET validation_not_before = 'infinity' WHERE video_id = 'b'")
    run_chunk(box.context)
    newer = rows(box)["a"]
    assert [(action, videos) for action, _, videos in actions(box)] == [("restored", 1)]
    assert rows(box)["a"] == newer
    assert rows(box)["b"] != newer
    assert findings(box) == []


def test_compaction_after_the_backup_is_restored(box, backup):
    """Its sources were deleted since: the compacted shard is the only copy, and replaces them again."""
    box.add_videos(*"ab")
    run_chunk(box.context, size=1)
    run_chunk(box.context, size=1)
    restore = backup()
    list(compact_all(box.engine, box.context.results))
    delete_retired(box.engine, box.context.results, older_than_s=-10)
    before = rows(box)
    restore()
    assert delete_orphans(box.engine, box.context.results, margin=NOW) == []
    assert [action for action, _, _ in actions(box)] == ["restored"]
    assert rows(box) == before
    assert findings(box) == []


def lose(box, key):
    delete_object(box.context.results, key)


def alter(box, key):
    damage_object(box.context.results, key)


@pytest.mark.attack
@pytest.mark.parametrize("damage", [lose, alter])
def test_videos_of_a_lost_or_altered_shard_are_requeued(box, damage):
    """The videos of other shards are not, and each is validated again."""
    box.add_videos(*"abc")
    run_chunk(box.context, size=2)
    run_chunk(box.context, size=1)
    lost, kept = (shard.shard_key for shard in read_committed_shards(box.engine))
    damage(box, lost)
    assert any(lost in finding for finding in findings(box))
    assert actions(box, dry_run=True) == [("withdrawn", lost, 2)]
    assert set(statuses(box.engine).values()) == {"validated"}
    assert actions(box) == [("withdrawn", lost, 2)]
    assert set(rows(box).values()) == {kept}
    assert violated_invariants(box.engine) == []
    run_chunk(box.context)
    assert set(statuses(box.engine).values()) == {"validated"}
    assert violated_invariants(box.engine) == []


def test_sources_of_a_lost_compacted_shard_are_current_again(box):
    """Their objects are kept for a day: no video is validated again."""
    box.add_videos(*"ab")
    run_chunk(box.context, size=1)
    run_chunk(box.context, size=1)
    before = rows(box)
    ((_, made),) = compact_all(box.engine, box.context.results)
    lose(box, made.key)
    assert actions(box) == [("withdrawn", made.key, 0)]
    assert rows(box) == before
    assert violated_invariants(box.engine) == []


def test_new_ledger_on_a_used_bucket_validates_every_video(box):
    """Shard numbers begin at 1 again and their keys are taken: a chunk takes a free one, and overwrites nothing."""
    box.add_videos(*"abc")
    run_chunk(box.context, size=1)
    run_chunk(box.context, size=1)
    execute(box.engine, f"TRUNCATE {', '.join(TABLES)}, validation.canary_evaluations")
    register_worker(box.engine, WorkerProfile("ann", config={"instance": "ann-1"}))
    seed_videos(box.engine, [Video(name, "hi", 2) for name in "abc"])
    used = {key: get_bytes(box.context.results, key) for key in list_keys(box.context.results)}
    run_chunk(box.context, size=2)
    run_chunk(box.context, size=1)
    assert set(statuses(box.engine).values()) == {"validated"}
    assert {key: get_bytes(box.context.results, key) for key in used} == used
    assert set(rows(box).values()) == {f"shards/ann/validation_ann_shard_{n:04d}.parquet" for n in (3, 4)}
    assert violated_invariants(box.engine) == []


def test_shard_of_another_queue_is_left_alone(box):
    """Its videos are not in this queue: it is reported, and neither recorded nor deleted."""
    box.add_videos("a")
    run_chunk(box.context)
    execute(box.engine, f"TRUNCATE {', '.join(TABLES)}, validation.canary_evaluations")
    register_worker(box.engine, WorkerProfile("ann", config={"instance": "ann-1"}))
    ((action, key, videos),) = actions(box)
    assert (action, videos) == ("left", 0)
    assert key in set(list_keys(box.context.results))

"""The log of a chunk: its events, their order and their fields."""

import logging

import pytest

from validation.worker.chunk.context import run_chunk


@pytest.fixture
def events(caplog):
    """A function that returns the log records of the chunk so far."""
    caplog.set_level(logging.INFO, logger="validation")
    return lambda: [record for record in caplog.records if hasattr(record, "event")]


def test_a_chunk_logs_one_event_per_step_and_none_per_segment(box, events):
    """Claim, fetch and score of each group, shard, commit: with ids, counts and durations as fields."""
    box.add_videos(*"abcdefg", segments=40)
    run_chunk(box.context)

    records = events()
    scored = [record for record in records if record.event == "group_scored"]
    steps = [record.event for record in records if record.event not in {"group_fetched", "group_scored"}]
    assert steps == ["chunk_claimed", "shard_written", "chunk_committed"]
    for group in range(3):
        positions = [n for n, record in enumerate(records) if getattr(record, "group", None) == group]
        assert [records[n].event for n in positions] == ["group_fetched", "group_scored"]
    assert [record.group for record in scored] == [0, 1, 2]
    assert len(records) == 3 + 2 * 3
    assert {(record.worker_id, len(record.chunk_id)) for record in records} == {("ann", 36)}
    assert (scored[0].videos, scored[0].segments) == (3, 120)
    assert all(record.duration_s >= 0 for record in records if record.event != "chunk_claimed")

    committed, written = records[-1], records[-2]
    assert (committed.videos_validated, committed.videos_failed, committed.segments) == (7, 0, 280)
    assert sum(getattr(committed, f"segments_{verdict}") for verdict in ("accept", "review", "reject")) == 280
    assert written.shard_key == "shards/ann/validation_ann_shard_0001.parquet"
    assert (written.rows, written.size_bytes > 1000) == (280, True)


def test_a_released_chunk_logs_the_reason(box, events):
    """The last event of a chunk that was not committed is a warning with the cause."""
    box.add_videos("a")
    box.scorer.before = lambda: (_ for _ in ()).throw(KeyError("peak"))
    with pytest.raises(KeyError):
        run_chunk(box.context)
    last = events()[-1]
    assert (last.event, last.levelname) == ("chunk_released", "WARNING")
    assert "peak" in last.reason

"""Compaction in the ledger: several shards are replaced by one in one transaction, or not at all."""

import pytest

from tests.support.ledger_helpers import fetch
from tests.support.result_helpers import NEW, ONE, THREE, TWO, current, receipt, validate, violated_invariants
from validation.ledger.maintenance import Requeue, compact_shards, purge_retired_shards, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.ledger.rpc import CompactionConflict

SOURCES = [ONE, TWO]
VIDEOS = {"v0000": 3, "v0001": 3, "w0000": 3}


@pytest.fixture
def two(ledger, seed):
    """Two shards, of two videos and of one."""
    seed(2)
    validate(ledger, "one")
    seed(1, prefix="w")
    validate(ledger, "two")
    return ledger


def keys(engine):
    return [shard.shard_key for shard in read_committed_shards(engine)]


def test_compacted_shard_replaces_its_sources(two):
    """Every video is read there, no worker's counters change, and the old shards are kept."""
    before = fetch(two, "SELECT worker_id, videos_processed, shards_uploaded FROM worker_validators ORDER BY 1")
    compact_shards(two, receipt("big"), sources=SOURCES, videos=VIDEOS)
    assert keys(two) == ["shards/big"]
    assert {video for video, _, _ in current(two)} == set(VIDEOS)
    assert fetch(two, "SELECT shard_key FROM validation.retired_shards") == [(ONE,), (TWO,)]
    assert fetch(two, "SELECT worker_id, videos_processed, shards_uploaded FROM worker_validators ORDER BY 1") == before
    assert violated_invariants(two) == []


WRONG = {
    "a video too few": ({"v0000": 3, "v0001": 3}, receipt("big")),
    "a video too many": (VIDEOS | {"x0000": 3}, receipt("big")),
    "another count": (VIDEOS | {"v0000": 4}, receipt("big")),
    "other models": (VIDEOS, receipt("big", NEW)),
    "another suite": (VIDEOS, receipt("big", suite="huge")),
}


@pytest.mark.parametrize("what", WRONG)
def test_compaction_refuses_other_videos_than_those_of_its_sources(two, what):
    """A compaction loses, doubles and renames nothing."""
    videos, shard = WRONG[what]
    with pytest.raises(CompactionConflict):
        compact_shards(two, shard, sources=SOURCES, videos=videos)
    assert keys(two) == SOURCES
    assert violated_invariants(two) == []


def test_compaction_does_not_bring_back_superseded_results(two):
    """A video that was validated again meanwhile stays in its newer shard."""
    requeue_videos(two, Requeue(["v0000"]))
    validate(two, "three")
    with pytest.raises(CompactionConflict):
        compact_shards(two, receipt("big"), sources=SOURCES, videos=VIDEOS)
    compact_shards(two, receipt("big"), sources=SOURCES, videos={"v0001": 3, "w0000": 3})
    assert keys(two) == [THREE, "shards/big"]
    assert violated_invariants(two) == []


def test_purge_takes_only_shards_retired_long_enough(two):
    """A current or recently retired shard stays, and each shard is purged once."""
    assert purge_retired_shards(two, older_than_s=-10) == []
    compact_shards(two, receipt("big"), sources=SOURCES, videos=VIDEOS)
    assert purge_retired_shards(two, older_than_s=3600) == []
    assert sorted(purge_retired_shards(two, older_than_s=-10)) == SOURCES
    assert purge_retired_shards(two, older_than_s=-10) == []
    assert keys(two) == ["shards/big"]
    assert violated_invariants(two) == []

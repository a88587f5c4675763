"""Commit, release and renewal of a chunk: each needs its token, and a commit is all or nothing."""

from dataclasses import replace

import pytest

from tests.support.ledger_helpers import claim, expire, fetch, shard, statuses
from validation.domain import Progress, VideoFailure
from validation.errors import ClaimLost
from validation.ledger.chunks import commit_chunk, release_chunk, renew_chunk
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.rpc import LedgerRefused


def commit(engine, chunk, *, receipt=None, validated=None, failed=()):
    """Commit a chunk with these videos."""
    validated = {v.video_id: 3 for v in chunk.videos} if validated is None else validated
    receipt = receipt or (shard(of=chunk) if validated else None)
    commit_chunk(engine, chunk.chunk_id, shard=receipt, validated=validated, failed=failed, max_attempts=3)


def snapshot(engine):
    """The state of every video, chunk and worker."""
    queue = fetch(engine, "SELECT * FROM video_queue ORDER BY video_id")
    return queue, fetch(engine, "SELECT * FROM validation_chunks"), fetch(engine, "SELECT * FROM worker_validators")


def test_a_swept_chunk_cannot_be_committed(connect, seed):
    """A worker that slept through its lease writes nothing, even if no other worker took its videos since."""
    seed(2)
    sleeper, sweeper = connect(), connect()
    chunk = claim(sleeper)
    expire(sweeper, chunk.chunk_id)
    (swept,) = sweep_stale_claims(sweeper)
    assert (swept.chunk_id, swept.videos_returned, swept.reason) == (chunk.chunk_id, 2, "lease expired")

    with pytest.raises(ClaimLost, match="expired"):
        commit(sleeper, chunk)
    assert set(statuses(sweeper).values()) == {"pending"}


def test_a_commit_is_all_or_nothing(ledger, seed):
    """A commit that names a video of another chunk changes nothing at all."""
    seed(10)
    mine, other = claim(ledger, size=5), claim(ledger, worker_id="bob", size=5)
    before = snapshot(ledger)
    stranger = other.videos[0].video_id
    with pytest.raises(LedgerRefused):
        commit(ledger, mine, validated={mine.videos[0].video_id: 3, stranger: 3})
    with pytest.raises(LedgerRefused):
        commit(
            ledger, mine, validated={mine.videos[0].video_id: 3}, failed=[VideoFailure(stranger, "x", transient=False)]
        )
    assert snapshot(ledger) == before


def test_a_video_is_validated_or_failed_but_not_both(ledger, seed):
    """Naming a video twice in one commit changes nothing at all."""
    seed(3)
    chunk = claim(ledger)
    before = snapshot(ledger)
    with pytest.raises(LedgerRefused):
        commit(ledger, chunk, failed=[VideoFailure(chunk.videos[0].video_id, "x", transient=False)])
    assert snapshot(ledger) == before


def test_commit_decides_every_video_of_its_chunk(ledger, seed):
    """Named videos become validated or failed; the others go back without losing an attempt; the shard is recorded."""
    seed(3)
    chunk = claim(ledger)
    good, bad, untouched = (v.video_id for v in chunk.videos)
    commit(ledger, chunk, validated={good: 7}, failed=[VideoFailure(bad, "object is missing", transient=False)])

    assert statuses(ledger) == {good: "validated", bad: "validation_failed", untouched: "pending"}
    ((attempts, segments),) = fetch(
        ledger,
        "SELECT max(validation_attempts) FILTER (WHERE video_id = :u), max(validation_segments) FROM video_queue",
        u=untouched,
    )
    assert (attempts, segments) == (0, 7)
    assert fetch(
        ledger, "SELECT state, shard_key, shard_bytes, videos_validated, videos_failed, segments FROM validation_chunks"
    ) == [("committed", shard(of=chunk).key, 1000, 1, 1, 7)]


def test_a_commit_whose_answer_was_lost_may_be_repeated(ledger, seed):
    """The same commit again is content and changes nothing; one with another shard is refused."""
    seed(3)
    chunk = claim(ledger)
    commit(ledger, chunk)
    before = snapshot(ledger)
    commit(ledger, chunk)
    with pytest.raises(ClaimLost, match="committed"):
        commit(ledger, chunk, receipt=shard("two", of=chunk))
    assert snapshot(ledger) == before


def test_chunk_of_failed_videos_is_committed_without_a_shard(ledger, seed):
    """No validated video, no shard."""
    (video,) = seed(1)
    chunk = claim(ledger)
    commit(ledger, chunk, validated={}, failed=[VideoFailure(video, "corrupt tar", transient=False)])
    assert fetch(ledger, "SELECT state, shard_key FROM validation_chunks") == [("committed", None)]


def test_commit_refuses_a_shard_without_videos(ledger, seed):
    """A shard validates at least one video."""
    seed(1)
    chunk = claim(ledger)
    with pytest.raises(LedgerRefused):
        commit(ledger, chunk, receipt=shard(of=chunk), validated={})


def test_committed_chunk_cannot_be_released(ledger, seed):
    """Its former holder cannot take back what readers see."""
    seed(3)
    chunk = claim(ledger)
    commit(ledger, chunk)
    with pytest.raises(ClaimLost, match="committed"):
        release_chunk(ledger, chunk.chunk_id, reason="too late")
    assert set(statuses(ledger).values()) == {"validated"}


def test_release_loses_no_attempt(ledger, seed):
    """Released videos are as if they had never been claimed."""
    seed(3)
    before = fetch(
        ledger,
        "SELECT video_id, validation_status, validation_attempts, validation_crashes, claimed_by FROM video_queue ORDER BY 1",
    )
    assert release_chunk(ledger, claim(ledger).chunk_id, reason="drained") == 3
    after = fetch(
        ledger,
        "SELECT video_id, validation_status, validation_attempts, validation_crashes, claimed_by FROM video_queue ORDER BY 1",
    )
    assert after == before


def test_release_takes_back_the_progress_of_the_chunk(ledger, seed):
    """The videos and segments that a renewal reported leave the worker's counters with the chunk."""
    seed(3)
    counters = (
        "SELECT videos_processed, videos_failed, segments_processed FROM worker_validators WHERE worker_id = 'ann'"
    )
    chunk = claim(ledger)
    renew_chunk(ledger, chunk, Progress(videos_validated=2, videos_failed=1, segments=6))
    assert fetch(ledger, counters) == [(2, 1, 6)]
    release_chunk(ledger, chunk.chunk_id, reason="drained")
    assert fetch(ledger, counters) == [(0, 0, 0)]


def test_renewal_needs_the_token(ledger, seed):
    """Only the holder of an open chunk moves its lease."""
    seed(10)
    chunk = claim(ledger, size=5)
    release_chunk(ledger, chunk.chunk_id, reason="test")
    with pytest.raises(ClaimLost, match="released"):
        renew_chunk(ledger, chunk, Progress())


def test_renewal_needs_the_right_worker(ledger, seed):
    """A worker does not keep another worker's chunk alive."""
    seed(5)
    ann = claim(ledger, worker_id="ann")
    impostor = type(ann)(ann.chunk_id, "bob", ann.shard_number, ann.lease_s, ann.videos)
    with pytest.raises(ClaimLost):
        renew_chunk(ledger, impostor, Progress())


def test_renewal_saves_a_chunk_from_the_sweep(ledger, seed):
    """A lease that was renewed in time is not swept, however long ago the claim was."""
    seed(5)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    renew_chunk(ledger, chunk, Progress())
    assert sweep_stale_claims(ledger) == []


def test_commit_records_audio_and_verdict_counts(ledger, seed):
    """Each under its own name; verdicts that do not add up to the segments are refused."""
    seed(2)
    chunk = claim(ledger)
    counted = {"accept": 3, "review": 2, "reject": 1}
    receipt = replace(shard(of=chunk), audio_s=12.5, verdicts=counted)
    with pytest.raises(LedgerRefused, match="verdicts_add_up"):
        commit(ledger, chunk, receipt=replace(receipt, verdicts=counted | {"reject": 2}))
    commit(ledger, chunk, receipt=receipt)
    kept = "SELECT audio_s, segments_accepted, segments_review, segments_rejected FROM validation_chunks"
    assert fetch(ledger, kept) == [(12.5, 3, 2, 1)]

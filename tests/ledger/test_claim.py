"""Claims: which videos a chunk gets, and that no video is claimed twice."""

import threading
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.support.ledger_helpers import claim, execute, fetch, statuses
from validation.domain import VideoFailure
from validation.ledger.chunks import commit_chunk, release_chunk
from validation.ledger.rpc import WorkerUnknown


def test_two_claimers_never_share_a_video(connect, seed):
    """A claim skips the videos that an uncommitted claim has locked, and does not wait for them."""
    seed(20)
    first, second = connect(), connect()
    with first.begin() as held:
        mine = held.execute(
            text("SELECT video_id FROM validation.claim_chunk(:c, 'ann', NULL, 12, NULL, 60, 'local')"), {"c": uuid4()}
        ).scalars()
        taken = set(mine)
        other = claim(second, worker_id="bob", size=20)
    assert len(taken) == 12
    assert {video.video_id for video in other.videos} == set(statuses(second)) - taken


def test_claimers_racing_to_the_end_take_every_video_exactly_once(connect, seed):
    """Eight clients that claim until nothing is left hold every video, and none of them twice."""
    videos = seed(200)
    taken: list[str] = []

    def drain(engine) -> None:
        while chunk := claim(engine, size=7):
            taken.extend(video.video_id for video in chunk.videos)

    racers = [threading.Thread(target=drain, args=(connect(),)) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(taken) == sorted(videos)


def test_claim_wraps_around_the_end_of_the_index(ledger, seed):
    """Wherever the random start falls, a claim finds all that is claimable."""
    seed(10)
    for _ in range(20):
        chunk = claim(ledger, size=10)
        assert len(chunk.videos) == 10
        release_chunk(ledger, chunk.chunk_id, reason="again")


def test_claim_repeated_with_its_token_is_the_same_claim(ledger, seed):
    """A claim whose answer was lost is found again, not doubled."""
    seed(20)
    token = uuid4()
    assert claim(ledger, chunk_id=token, size=5) == claim(ledger, chunk_id=token, size=5)
    assert list(statuses(ledger).values()).count("validating") == 5


def test_token_gives_another_worker_no_videos(ledger, seed):
    """Knowing the token of another worker's chunk yields no videos."""
    seed(5)
    chunk = claim(ledger, worker_id="ann", size=5)
    assert claim(ledger, worker_id="bob", chunk_id=chunk.chunk_id) is None


def test_only_transcribed_and_due_videos_are_claimed(ledger, seed):
    """A video still being transcribed, or backing off after a failure, is not claimable."""
    seed(4)
    execute(ledger, "UPDATE video_queue SET status = 'processing' WHERE video_id = 'v0000'")
    execute(ledger, "UPDATE video_queue SET validation_not_before = now() + interval '1 h' WHERE video_id = 'v0001'")
    assert [video.video_id for video in claim(ledger).videos] == ["v0002", "v0003"]


def test_claim_takes_only_the_given_languages(ledger, seed):
    """Only videos of the languages asked for are claimed."""
    seed(3, language="hi", prefix="h")
    seed(3, language="ta", prefix="t")
    assert {video.language for video in claim(ledger, languages=["ta"]).videos} == {"ta"}
    assert claim(ledger, languages=["bn"]) is None


def test_claim_of_an_empty_queue_opens_no_chunk(ledger, seed):
    """An empty queue leaves no row of a chunk."""
    seed(0)
    assert claim(ledger) is None
    assert fetch(ledger, "SELECT * FROM validation_chunks") == []


def test_unregistered_worker_may_not_claim(ledger, seed):
    """The claim is refused, and the worker holds nothing."""
    seed(3)
    with pytest.raises(WorkerUnknown, match="carl"):
        claim(ledger, worker_id="carl")
    assert set(statuses(ledger).values()) == {"pending"}


def test_shard_numbers_of_a_worker_never_repeat(ledger, seed):
    """Every claim of a worker names another shard, also after chunks that left none."""
    seed(30)
    numbers = []
    for _ in range(3):
        chunk = claim(ledger, size=5)
        numbers.append(chunk.shard_number)
        release_chunk(ledger, chunk.chunk_id, reason="test")
    assert claim(ledger, worker_id="bob", size=5).shard_number == 1
    assert numbers == [1, 2, 3]


def test_transient_failure_counts_an_attempt_and_backs_off(ledger, seed):
    """The back-off doubles per attempt, and the video fails at the limit."""
    (video,) = seed(1)
    waits = []
    for _ in range(3):
        chunk = claim(ledger, size=1)
        failure = VideoFailure(video, "connection reset", transient=True)
        commit_chunk(ledger, chunk.chunk_id, shard=None, validated={}, failed=[failure], max_attempts=3, backoff_s=60)
        waits += fetch(ledger, "SELECT round(extract(epoch FROM validation_not_before - now())) FROM video_queue")
        assert claim(ledger) is None
        execute(ledger, "UPDATE video_queue SET validation_not_before = now()")
    ((status, error),) = fetch(ledger, "SELECT validation_status, validation_error FROM video_queue")
    assert (status, error) == ("validation_failed", "connection reset")
    assert [int(wait) for (wait,) in waits[:2]] == [60, 120]

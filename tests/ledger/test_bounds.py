"""Limits of what a holder may report about its chunk, because a compromised box may send anything."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.support.ledger_helpers import claim, execute, expire, fetch, shard, statuses
from validation.domain import Progress, VideoFailure, WorkerProfile
from validation.ledger.chunks import commit_chunk, release_chunk, renew_chunk
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.queries import read_workload
from validation.ledger.rpc import FlowRunAlreadyHoldsChunk, LedgerRefused, WorkerIdTaken
from validation.ledger.workers import heartbeat_worker, register_worker
from validation.shards.naming import shard_key


def commit(engine, chunk, receipt, segments: int = 1) -> None:
    validated = {video.video_id: segments for video in chunk.videos}
    commit_chunk(engine, chunk.chunk_id, shard=receipt, validated=validated, failed=[], max_attempts=3)


@pytest.mark.parametrize(
    "key",
    [shard_key("bob", 1), shard_key("ann", 2), "shards/compacted/validation_x.parquet", "shards/ann/other.parquet"],
)
def test_commit_refuses_a_shard_key_of_another_chunk(ledger, seed, key):
    """A box could otherwise take another chunk's key, or have the control plane delete any object."""
    seed(1)
    chunk = claim(ledger)
    with pytest.raises(LedgerRefused, match="the key of its shard is shards/ann/validation_ann_shard_0001"):
        commit(ledger, chunk, replace(shard(), key=key))
    commit(ledger, chunk, shard(of=chunk))


@pytest.mark.parametrize("number", [1, 9999, 10000, 123456])
def test_ledger_and_writer_derive_the_same_shard_key(ledger, seed, number):
    """SQL and Python give every shard number the same key."""
    seed(1)
    chunk = replace(claim(ledger), shard_number=number)
    execute(ledger, "UPDATE validation_chunks SET shard_number = :n", n=number)
    commit(ledger, chunk, shard(of=chunk))
    assert fetch(ledger, "SELECT shard_key FROM validation_shards") == [(shard_key("ann", number),)]


def test_flow_run_holds_one_chunk_per_worker(ledger, seed):
    """A second claim is refused while the first chunk is open; repeating the first claim returns the first chunk."""
    seed(9)
    token, run = uuid4(), uuid4()
    held = claim(ledger, size=3, chunk_id=token, flow_run_id=run)
    with pytest.raises(FlowRunAlreadyHoldsChunk):
        claim(ledger, size=3, flow_run_id=run)
    assert claim(ledger, size=3, chunk_id=token, flow_run_id=run) == held
    release_chunk(ledger, token, reason="test")
    assert claim(ledger, size=3, flow_run_id=run).videos


def test_worker_is_not_blocked_by_another_worker_naming_its_flow_run(ledger, seed):
    """The ledger cannot tell whose run it is: otherwise the first to name it would decide."""
    seed(6)
    run = uuid4()
    claim(ledger, worker_id="bob", size=3, flow_run_id=run)
    assert claim(ledger, worker_id="ann", size=3, flow_run_id=run).videos


def test_worker_holds_many_chunks_without_a_flow_run(ledger, seed):
    """Without a flow run, as in `vfleet run-chunk`, a worker may hold several chunks."""
    seed(6)
    assert [len(claim(ledger, size=3, flow_run_id=None).videos) for _ in range(2)] == [3, 3]


@pytest.mark.parametrize("lease_s", [-(10**6), 0, 1])
def test_lease_is_never_shorter_than_ten_seconds(ledger, seed, lease_s):
    """A shorter lease would expire at once and count a crash for each video, on claim and on renewal."""
    seed(2)
    chunk = claim(ledger, lease_s=lease_s)
    left = "SELECT lease_expires_at > now() + interval '5 s' FROM validation_chunks"
    assert fetch(ledger, left) == [(True,)]
    expire(ledger, chunk.chunk_id)
    renew_chunk(ledger, replace(chunk, lease_s=lease_s), Progress())
    assert fetch(ledger, left) == [(True,)]
    assert sweep_stale_claims(ledger) == []


@pytest.mark.parametrize(
    ("attempts", "backoff_s", "hours"), [(1, 2**31 - 1, 1), (9, 2**31 - 1, 24), (9, 3600, 24), (1, -(2**31), 0)]
)
def test_back_off_is_at_most_an_hour_at_first_and_a_day_at_last(ledger, seed, attempts, backoff_s, hours):
    """The limits hold for any requested back-off and any number of earlier failures."""
    (video,) = seed(1)
    chunk = claim(ledger)
    execute(ledger, "UPDATE video_queue SET validation_attempts = :n", n=attempts)
    failure = VideoFailure(video, "connection reset", transient=True)
    commit_chunk(
        ledger, chunk.chunk_id, shard=None, validated={}, failed=[failure], max_attempts=10, backoff_s=backoff_s
    )
    ((status, put_off_h),) = fetch(
        ledger,
        "SELECT q.validation_status, extract(epoch FROM q.validation_not_before - c.closed_at) / 3600 "
        "FROM video_queue q, validation_chunks c",
    )
    assert (status, put_off_h) == ("pending", hours)


def test_tenth_transient_failure_fails_the_video(ledger, seed):
    """The ledger caps the limit that the holder names at ten attempts."""
    (video,) = seed(1)
    chunk = claim(ledger)
    execute(ledger, "UPDATE video_queue SET validation_attempts = 30000")
    failure = VideoFailure(video, "connection reset", transient=True)
    commit_chunk(
        ledger, chunk.chunk_id, shard=None, validated={}, failed=[failure], max_attempts=2**31 - 1, backoff_s=2**31 - 1
    )
    assert statuses(ledger) == {video: "validation_failed"}


@pytest.mark.parametrize("rate", ["NaN", "Infinity", -1.0, 1e30])
def test_rate_is_clamped_to_a_finite_number(ledger, seed, rate):
    """One NaN would make the rate of the whole fleet NaN."""
    seed(1)
    renew_chunk(ledger, claim(ledger), Progress(segments_per_s=rate))
    assert fetch(ledger, "SELECT segments_per_s BETWEEN 0 AND 1e6 FROM validation_chunks") == [(True,)]


@pytest.mark.parametrize("segments", [-1, 100_001, 2**31 - 1])
def test_segment_count_above_the_limit_is_refused(ledger, seed, segments):
    """A false count would overflow the sums over all workers, so renewal and commit refuse it."""
    seed(1)
    chunk = claim(ledger)
    with pytest.raises(LedgerRefused):
        renew_chunk(ledger, chunk, Progress(segments=segments))
    with pytest.raises(LedgerRefused):
        commit(ledger, chunk, shard(of=chunk), segments=segments)
    assert fetch(ledger, "SELECT state, segments FROM validation_chunks") == [("open", 0)]


@pytest.mark.parametrize(
    "lie",
    [
        {"size_bytes": -1}, {"size_bytes": 10**13}, {"audio_s": "NaN"}, {"audio_s": "Infinity"},
        {"models": {"ear": "1" * 20_000}},
    ],
)  # fmt: skip
def test_commit_refuses_an_impossible_shard_size(ledger, seed, lie):
    """The size, the audio and the model names of a shard are stored and summed, so impossible values are refused."""
    seed(1)
    chunk = claim(ledger)
    with pytest.raises(LedgerRefused, match=r"is out of range|is not \"(positive|number|text)"):
        commit(ledger, chunk, replace(shard(of=chunk), **lie))


def test_long_texts_are_truncated(ledger, seed):
    """Every stored text of a caller is cut to 2,000 characters."""
    seed(2)
    heartbeat_worker(ledger, "ann", last_error="x" * 10**6)
    chunk = claim(ledger, size=1)
    failure = VideoFailure(chunk.videos[0].video_id, "x" * 10**6, transient=False)
    commit_chunk(ledger, chunk.chunk_id, shard=None, validated={}, failed=[failure], max_attempts=3)
    release_chunk(ledger, claim(ledger, size=1).chunk_id, reason="x" * 10**6)
    kept = "SELECT max(length(validation_error)) FROM video_queue"
    assert fetch(ledger, kept) == [(2000,)]
    assert fetch(ledger, "SELECT length(last_error) FROM worker_validators WHERE worker_id = 'ann'") == [(2000,)]
    assert fetch(ledger, "SELECT max(length(close_reason)) FROM validation_chunks") == [(2000,)]


@pytest.mark.parametrize(
    "config",
    [{"budgets": {"flow_runs": 10**9}}, {"budgets": {"flow_runs": "many"}}, {"budgets": {"flow_runs": -1}},
     {"note": "x" * 70_000}],
)  # fmt: skip
def test_registration_refuses_an_oversized_or_unreadable_configuration(ledger, seed, config):
    """Dispatch creates as many runs as workers ask for, and must be able to read the number."""
    seed(1)
    with pytest.raises(LedgerRefused):
        register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-1"} | config))
    assert read_workload(ledger).slots_online == 2


REGISTER = "SELECT validation.register_worker('carl', '', NULL, :config, NULL, NULL, 1)"
WAITING = "SELECT FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"


def test_restarts_do_not_fail_videos_as_poison(ledger, seed):
    """A worker that restarts again and again with a crash limit of 1 fails no video before its third crash."""
    (video,) = seed(1)
    for restarts in range(1, 9):
        execute(ledger, REGISTER, config="{}")
        claim(ledger, worker_id="carl")
        execute(ledger, REGISTER, config="{}")
        assert fetch(ledger, "SELECT validation_status, validation_crashes FROM video_queue") == [
            ("pending", restarts // 4)
        ]
    assert statuses(ledger) == {video: "pending"}


def test_worker_id_lock_cannot_be_taken_by_a_login(connect, seed):
    """An advisory lock on a worker id, which any login may take, does not block that worker."""
    seed(1)
    held, working = connect(), connect()
    with held.begin() as connection:
        for name in ("ann", "carl"):
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:n))"), {"n": name})
        heartbeat_worker(working, "ann", instance="ann-1")
        register_worker(working, WorkerProfile("carl", config={"instance": "carl-1"}))


def test_second_of_two_boxes_registering_one_worker_id_is_refused(connect, seed):
    """Two boxes that register at once are serialised, even if the worker id has no row yet."""
    seed(0)
    first, second, watching = connect(), connect(), connect()
    twin = WorkerProfile("carl", config={"instance": "carl-2"})
    with ThreadPoolExecutor() as pool:
        with first.begin() as held:
            held.execute(text(REGISTER), {"config": '{"instance": "carl-1"}'})
            waiting = pool.submit(register_worker, second, twin)
            while not fetch(watching, WAITING) and not waiting.done():
                pass
        with pytest.raises(WorkerIdTaken, match="carl-1"):
            waiting.result()

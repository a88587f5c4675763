"""The ledger's invariants hold whatever the order of events."""

from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.ledger_helpers import claim, execute, expire, shard
from validation.domain import Progress, VideoFailure
from validation.ledger.chunks import commit_chunk, release_chunk, renew_chunk
from validation.ledger.maintenance import Requeue, requeue_videos, sweep_stale_claims
from validation.ledger.queries import audit_ledger
from validation.ledger.workers import retire_worker

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "renew", "commit", "commit", "release", "crash", "retire", "requeue"]),
        st.sampled_from(["ann", "bob"]),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=25,
)


def play(engine, events) -> None:
    held: list = []
    for event, worker, n in events:
        if event == "claim":
            held += [chunk] if (chunk := claim(engine, worker_id=worker, size=n + 1)) else []
        elif event == "retire":
            retire_worker(engine, worker)
            held = [chunk for chunk in held if chunk.worker_id != worker]
        elif event == "requeue":
            requeue_videos(engine, Requeue(lacking={"ear": None} if n > 7 else None))
        elif held:
            chunk = held[n % len(held)]
            if event == "renew":
                done = n % (len(chunk.videos) + 1)
                renew_chunk(engine, chunk, Progress(videos_validated=done, segments=3 * done, segments_per_s=n))
                continue
            held.remove(chunk)
            finish(engine, event, chunk, n)


def finish(engine, event, chunk, n) -> None:
    if event == "commit":
        ids = [video.video_id for video in chunk.videos]
        validated, failed = dict.fromkeys(ids[n % 3 :], n + 1), ids[: n % 2]
        commit_chunk(
            engine, chunk.chunk_id, shard=shard(uuid4().hex[:16], of=chunk) if validated else None, validated=validated,
            failed=[VideoFailure(v, "reason", transient=n > 4) for v in failed if v not in validated], max_attempts=3,
        )  # fmt: skip
    elif event == "release":
        release_chunk(engine, chunk.chunk_id, reason="test")
    else:
        expire(engine, chunk.chunk_id)
        sweep_stale_claims(engine)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS)
def test_invariants_hold_after_any_history(ledger, seed, events):
    """Counters equal the sums over chunks; a validating video is in an open chunk; a validated video has a shard."""
    execute(
        ledger,
        "TRUNCATE video_queue, validation_chunks, worker_validators, validation_shards, validation_results, validation.canary_evaluations",
    )
    seed(30)
    play(ledger, events)

    assert [check for check in audit_ledger(ledger) if check.violations] == []


VIOLATIONS = {
    "a validating video is held by an open chunk": "UPDATE video_queue SET validation_chunk = gen_random_uuid() WHERE validation_status = 'validating'",
    "a validated video is in a committed shard": "UPDATE video_queue SET validation_chunk = gen_random_uuid() WHERE validation_status = 'validated'",
    "a committed chunk counts its validated videos and their segments": "UPDATE validation_chunks SET segments = segments + 1 WHERE state = 'committed'",
    "a shard counts its videos and their segments": "UPDATE validation_shards SET segments = segments + 1",
    "a chunk and its shard agree on key, checksum and size": "UPDATE validation_shards SET shard_sha256 = repeat('0', 64)",
    "a validated video that had a result has a current result": "UPDATE validation_results SET superseded_at = now()",
    "no current result is in a deleted shard": "UPDATE validation_shards SET deleted_at = now()",
    "an open chunk holds the videos that it claimed": "UPDATE validation_chunks SET videos_claimed = videos_claimed + 1 WHERE state = 'open'",
    "a worker's counters equal the sums over its chunks": "UPDATE worker_validators SET segments_processed = segments_processed + 1",
    "a worker names the flow runs of its open chunks": "UPDATE worker_validators SET flow_run_ids = '{}'",
    "attempts and crashes are not negative": "UPDATE video_queue SET validation_attempts = -1",
}


@pytest.mark.parametrize("invariant", VIOLATIONS)
def test_audit_notices_each_violation(ledger, seed, invariant):
    """Each invariant is violated by some edit, and then names an example."""
    seed(10)
    finish(ledger, "commit", claim(ledger, size=4), 0)
    claim(ledger, size=4)
    assert {found.invariant for found in audit_ledger(ledger)} == set(VIOLATIONS)
    execute(ledger, VIOLATIONS[invariant])
    broken = {found.invariant: found for found in audit_ledger(ledger) if found.violations}
    assert broken[invariant].example

"""Whatever the order of events, the ledger's books balance."""

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
def test_the_books_balance_after_any_history(ledger, seed, events):
    """Counters equal the sums over chunks; who is validating is held by an open chunk; who is validated has a shard."""
    execute(
        ledger,
        "TRUNCATE video_queue, validation_chunks, worker_validators, validation_shards, validation_results, validation.canary_evaluations",
    )
    seed(30)
    play(ledger, events)

    broken = [law for law in audit_ledger(ledger) if law.violations]
    assert broken == []


VANDALISM = {
    "a validating video is held by an open chunk": "UPDATE video_queue SET validation_chunk = gen_random_uuid() WHERE validation_status = 'validating'",
    "a validated video stands in a committed shard": "UPDATE video_queue SET validation_chunk = gen_random_uuid() WHERE validation_status = 'validated'",
    "a committed chunk counts its validated videos and their segments": "UPDATE validation_chunks SET segments = segments + 1 WHERE state = 'committed'",
    "a shard counts its videos and their segments": "UPDATE validation_shards SET segments = segments + 1",
    "a chunk's shard is the one that it uploaded": "UPDATE validation_shards SET shard_sha256 = repeat('0', 64)",
    "what stood in a shard stands in one for ever": "UPDATE validation_results SET superseded_at = now()",
    "nothing current stands in a deleted shard": "UPDATE validation_shards SET deleted_at = now()",
    "an open chunk holds the videos that it claimed": "UPDATE validation_chunks SET videos_claimed = videos_claimed + 1 WHERE state = 'open'",
    "a worker's counters equal the sums over its chunks": "UPDATE worker_validators SET segments_processed = segments_processed + 1",
    "a worker names the flow runs of its open chunks": "UPDATE worker_validators SET flow_run_ids = '{}'",
    "no attempt and no crash is counted below zero": "UPDATE video_queue SET validation_attempts = -1",
}


@pytest.mark.parametrize("law", VANDALISM)
def test_the_audit_notices(ledger, seed, law):
    """Every law of the audit is broken by some edit, and then names an example."""
    seed(10)
    finish(ledger, "commit", claim(ledger, size=4), 0)
    claim(ledger, size=4)
    assert {found.invariant for found in audit_ledger(ledger)} == set(VANDALISM)
    execute(ledger, VANDALISM[law])
    broken = {found.invariant: found for found in audit_ledger(ledger) if found.violations}
    assert broken[law].example

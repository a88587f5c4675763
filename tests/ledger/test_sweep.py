"""The sweep: when a chunk is taken back, and what counts as a crash, a loss or neither."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.support.ledger_helpers import claim, execute, expire, expire_box, fetch, shard, statuses, stop_heartbeat
from validation.domain import Progress, WorkerProfile
from validation.ledger.chunks import commit_chunk, renew_chunk
from validation.ledger.maintenance import mark_stale_workers, requeue_stranded_videos, sweep_stale_claims
from validation.ledger.rpc import WorkerIdTaken
from validation.ledger.workers import drain_worker, heartbeat_worker, register_worker, retire_worker


def test_a_live_chunk_is_not_swept(ledger, seed):
    """A chunk within its lease stays with its holder, whatever the sweeper thinks of its worker."""
    seed(3)
    claim(ledger)
    execute(ledger, "UPDATE worker_validators SET status = 'stale', last_heartbeat_at = now() - interval '1 h'")
    assert sweep_stale_claims(ledger) == []


def test_a_chunk_whose_run_ended_is_swept_before_its_lease_ends(ledger, seed):
    """The orchestrator's word frees its videos once its worker has outlived half a lease without a renewal."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire(ledger, chunk.chunk_id)
    stop_heartbeat(ledger, chunk.chunk_id, lease_left_s=20)
    (swept,) = sweep_stale_claims(ledger, ended_runs={uuid4(): 0.0, run: 40.0})
    assert (swept.chunk_id, swept.reason) == (chunk.chunk_id, "flow run ended")
    assert fetch(ledger, "SELECT DISTINCT validation_crashes, validation_losses FROM video_queue") == [(1, 0)]


@pytest.mark.parametrize(
    ("lease_left_s", "ended_ago_s"),
    [
        (50, 5),  # it ended, and its worker has had no time to outlive it
        (50, 3600),  # it is renewed, an hour after it ended
        (20, 3600),  # it was renewed long after it ended, and then fell silent
    ],
)
def test_renewed_chunk_is_kept_although_prefect_reports_its_run_ended(ledger, seed, lease_left_s, ended_ago_s):
    """A run that was marked Crashed by mistake works on, and so does one that ends in a Prefect that restarts."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire(ledger, chunk.chunk_id)
    stop_heartbeat(ledger, chunk.chunk_id, lease_left_s=lease_left_s)
    assert sweep_stale_claims(ledger, ended_runs={run: ended_ago_s}) == []


def test_renewal_after_the_reported_end_keeps_the_chunk(ledger, seed):
    """A holder that renewed just before the sweep is alive, though its run was reported ended before."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire(ledger, chunk.chunk_id)
    renew_chunk(ledger, chunk, Progress())
    assert sweep_stale_claims(ledger, ended_runs={run: 0.0}) == []


def test_chunk_of_a_lost_box_is_swept_by_its_lease_only(ledger, seed):
    """No worker lived on that could tell the flow run's crash from the box's."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire_box(ledger, chunk.chunk_id)
    stop_heartbeat(ledger, chunk.chunk_id, lease_left_s=20)
    assert sweep_stale_claims(ledger, ended_runs={run: 40.0}) == []


def test_sweep_skips_a_locked_chunk(connect, seed):
    """A row that is locked at this moment has a live holder."""
    seed(3)
    holder, sweeper = connect(), connect()
    chunk = claim(holder)
    expire(sweeper, chunk.chunk_id)
    with holder.begin() as renewing:
        renewing.execute(
            text("SELECT FROM validation_chunks WHERE chunk_id = :c FOR NO KEY UPDATE"), {"c": chunk.chunk_id}
        )
        assert sweep_stale_claims(sweeper) == []


LOCKS = {
    "its worker": "SELECT FROM worker_validators WHERE worker_id = 'ann' FOR UPDATE",
    "its videos": "SELECT FROM video_queue WHERE claimed_by = 'ann' FOR UPDATE",
}


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_box_that_vanishes_during_a_call_delays_no_other_box(connect, seed, lock):
    """The sweep skips what the box has locked, and takes back and marks the other boxes meanwhile."""
    seed(6)
    vanished, sweeper = connect(), connect()
    held = [claim(sweeper, worker_id=worker, size=3) for worker in ("ann", "bob")]
    for chunk in held:
        expire_box(sweeper, chunk.chunk_id)
    execute(sweeper, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '1 h'")
    with vanished.begin() as call:
        call.execute(text(lock))
        assert [chunk.worker_id for chunk in sweep_stale_claims(sweeper)] == ["bob"]
        assert "bob" in mark_stale_workers(sweeper)
    assert [chunk.worker_id for chunk in sweep_stale_claims(sweeper)] == ["ann"]


def test_loss_of_boxes_counts_no_crash_for_their_videos(ledger, seed):
    """Box after box is lost: no crash is counted for what it held by chance."""
    seed(1)
    for _ in range(3):
        expire_box(ledger, claim(ledger).chunk_id)
        sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_status, validation_crashes, validation_attempts FROM video_queue") == [
        ("pending", 0, 0)
    ]


def test_restart_of_a_worker_counts_no_crash(ledger, seed):
    """Its earlier session stopped together with the chunk."""
    seed(1)
    expire_box(ledger, claim(ledger).chunk_id)
    register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-2"}), replaces="ann-1")
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(0, 1)]


def test_ledger_outage_beyond_the_lease_counts_no_crash(ledger, seed):
    """Heartbeats and renewals stopped together; the next heartbeat proves nothing about the process."""
    seed(1)
    expire_box(ledger, claim(ledger).chunk_id)
    heartbeat_worker(ledger, "ann", instance="ann-1")
    sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(0, 1)]


def test_worker_with_gapless_heartbeats_outlived_its_run(ledger, seed):
    """If the worker's heartbeats had no gap, the flow process died by itself, and a crash is counted."""
    seed(1)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '25 s'")
    heartbeat_worker(ledger, "ann", instance="ann-1")
    sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(1, 0)]


def test_video_that_kills_boxes_fails_in_the_end(ledger, seed):
    """Each fourth loss counts as a crash: the video is claimed alone before it fails, and its chunk-mates are validated."""
    videos = seed(10)
    poison, losses = videos[3], 0
    while losses < 20 and (chunk := claim(ledger, size=10)):
        ids = [video.video_id for video in chunk.videos]
        if poison in ids:
            losses += 1
            expire_box(ledger, chunk.chunk_id)
            sweep_stale_claims(ledger)
        else:
            validated = dict.fromkeys(ids, 1)
            commit_chunk(ledger, chunk.chunk_id, shard=shard(of=chunk), validated=validated, failed=[], max_attempts=3)
    assert losses == 12
    assert {video for video, status in statuses(ledger).items() if status != "validated"} == {poison}


def test_poison_fails_alone_and_its_chunk_mates_lose_nothing(ledger, seed):
    """A video that kills its process three times fails with that reason; every mate is validated, no attempt lost."""
    videos = seed(50)
    poison, claims = videos[17], 0
    while chunk := claim(ledger, size=50):
        claims += 1
        ids = [video.video_id for video in chunk.videos]
        if poison in ids:
            expire(ledger, chunk.chunk_id)
            sweep_stale_claims(ledger)
        else:
            commit_chunk(
                ledger,
                chunk.chunk_id,
                shard=shard(f"{claims}", of=chunk),
                validated=dict.fromkeys(ids, 1),
                failed=[],
                max_attempts=3,
            )

    assert {video for video, status in statuses(ledger).items() if status != "validated"} == {poison}
    ((error, crashes),) = fetch(
        ledger, "SELECT validation_error, validation_crashes FROM video_queue WHERE video_id = :p", p=poison
    )
    assert (error, crashes) == ("poison: its process died 3 times", 3)
    assert fetch(
        ledger,
        "SELECT max(validation_attempts), max(validation_crashes) FROM video_queue WHERE video_id <> :p",
        p=poison,
    ) == [(1, 2)]
    assert claims < 20


def test_restarted_worker_takes_back_the_chunks_of_its_earlier_session(ledger, seed):
    """Chunks open under a worker's id when it registers are dead, and claimable at once."""
    seed(3)
    claim(ledger, worker_id="ann")
    again = WorkerProfile("ann", config={"instance": "ann-2"})
    assert register_worker(ledger, again, replaces="ann-1") == 1
    assert len(claim(ledger, worker_id="bob").videos) == 3


def test_two_live_boxes_cannot_share_a_worker_id(ledger, seed):
    """The second is refused, naming the first, until the first sends no heartbeats any more."""
    seed(1)
    twin = WorkerProfile("ann", config={"instance": "ann-2"})
    with pytest.raises(WorkerIdTaken, match="ann-1"):
        register_worker(ledger, twin)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '61 s' WHERE worker_id = 'ann'")
    register_worker(ledger, twin)


@pytest.mark.parametrize("call", [heartbeat_worker, drain_worker, retire_worker])
def test_replaced_instance_may_not_change_the_workers_row(ledger, seed, call):
    """An instance that was replaced neither revives, drains nor retires the worker that lives."""
    seed(2)
    register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-2"}), replaces="ann-1")
    claim(ledger, worker_id="ann")
    with pytest.raises(WorkerIdTaken, match="ann-2"):
        call(ledger, "ann", instance="ann-1")
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("online",)]
    assert fetch(ledger, "SELECT state FROM validation_chunks") == [("open",)]
    call(ledger, "ann", instance="ann-2")


def test_retired_worker_releases_its_chunks(ledger, seed):
    """No attempt is lost."""
    seed(3)
    claim(ledger, worker_id="ann")
    assert retire_worker(ledger, "ann") == 1
    assert fetch(ledger, "SELECT max(validation_attempts), max(validation_crashes) FROM video_queue") == [(0, 0)]
    assert fetch(ledger, "SELECT status, flow_run_ids FROM worker_validators WHERE worker_id = 'ann'") == [
        ("offline", [])
    ]


def test_worker_without_heartbeat_is_stale_until_the_next_one(ledger, seed):
    """After the length of a lease."""
    seed(1)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s' WHERE worker_id = 'ann'")
    assert mark_stale_workers(ledger) == ["ann"]
    heartbeat_worker(ledger, "ann", instance="ann-1")
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("online",)]


def test_hung_worker_is_not_kept_alive_by_its_flow_runs(ledger, seed):
    """Renewals and commits are no heartbeat of the worker process."""
    seed(1)
    chunk = claim(ledger)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s' WHERE worker_id = 'ann'")
    renew_chunk(ledger, chunk, Progress(current_video_id="v0000"))
    assert mark_stale_workers(ledger) == ["ann"]
    assert fetch(ledger, "SELECT current_video_id FROM worker_validators WHERE worker_id = 'ann'") == [("v0000",)]
    commit_chunk(ledger, chunk.chunk_id, shard=shard(of=chunk), validated={"v0000": 1}, failed=[], max_attempts=3)
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("stale",)]


def test_worker_without_heartbeat_for_a_day_is_offline(ledger, seed):
    """It raises no alert any more; a later heartbeat puts it online again."""
    seed(1)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '23 h' WHERE worker_id = 'ann'")
    assert mark_stale_workers(ledger) == ["ann"]
    assert mark_stale_workers(ledger) == []
    alarm = "SELECT worker_id FROM validation.worker_liveness WHERE liveness = 'stale'"
    assert fetch(ledger, alarm) == [("ann",)]
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '25 h' WHERE worker_id = 'ann'")
    assert mark_stale_workers(ledger) == []
    assert fetch(ledger, alarm) == []
    heartbeat_worker(ledger, "ann", instance="ann-1")
    assert fetch(ledger, "SELECT liveness FROM validation.worker_liveness WHERE worker_id = 'ann'") == [("online",)]


def test_stranded_video_is_requeued(ledger, seed):
    """`validating` for 30 minutes without an open chunk: back to the queue. With one: left alone."""
    seed(6)
    held, lost = claim(ledger, size=3), claim(ledger, size=3)
    execute(
        ledger,
        "UPDATE validation_chunks SET state = 'released', closed_at = now() WHERE chunk_id = :c",
        c=lost.chunk_id,
    )
    execute(ledger, "UPDATE video_queue SET claimed_at = now() - interval '31 min'")
    assert requeue_stranded_videos(ledger) == 3
    assert {v for v, status in statuses(ledger).items() if status == "validating"} == {v.video_id for v in held.videos}

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
def test_a_holder_that_renews_keeps_its_chunk_whatever_is_said_of_its_run(ledger, seed, lease_left_s, ended_ago_s):
    """A run that was marked Crashed by mistake works on, and so does one that ends in a Prefect which restarts."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire(ledger, chunk.chunk_id)
    stop_heartbeat(ledger, chunk.chunk_id, lease_left_s=lease_left_s)
    assert sweep_stale_claims(ledger, ended_runs={run: ended_ago_s}) == []


def test_a_renewal_is_dated(ledger, seed):
    """A holder that came back just before the sweep is no dead one, though its run was said to have ended before."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire(ledger, chunk.chunk_id)
    renew_chunk(ledger, chunk, Progress())
    assert sweep_stale_claims(ledger, ended_runs={run: 0.0}) == []


def test_a_lost_box_is_judged_by_the_clock_alone(ledger, seed):
    """Nobody lives who could have seen its flow run end."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    expire_box(ledger, chunk.chunk_id)
    stop_heartbeat(ledger, chunk.chunk_id, lease_left_s=20)
    assert sweep_stale_claims(ledger, ended_runs={run: 40.0}) == []


def test_a_chunk_that_is_being_written_is_not_waited_for(connect, seed):
    """The sweep passes over a row that somebody holds at this moment: its holder lives."""
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
def test_a_box_that_vanishes_amid_a_call_keeps_no_other_boxs_chunk(connect, seed, lock):
    """What its last transaction locked waits for the end of that; everybody else is swept and flagged meanwhile."""
    seed(6)
    vanished, sweeper = connect(), connect()
    for worker in ("ann", "bob"):
        expire_box(sweeper, claim(sweeper, worker_id=worker, size=3).chunk_id)
    execute(sweeper, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '1 h'")
    with vanished.begin() as call:
        call.execute(text(lock))
        assert [chunk.worker_id for chunk in sweep_stale_claims(sweeper)] == ["bob"]
        assert "bob" in mark_stale_workers(sweeper)
    assert [chunk.worker_id for chunk in sweep_stale_claims(sweeper)] == ["ann"]


def test_a_sound_video_survives_the_loss_of_any_box_that_holds_it(ledger, seed):
    """Box after box is lost, restarts or loses its ledger: no crash is counted against what it held by chance."""
    seed(1)
    for _ in range(3):
        expire_box(ledger, claim(ledger).chunk_id)
        sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_status, validation_crashes, validation_attempts FROM video_queue") == [
        ("pending", 0, 0)
    ]


def test_what_a_restarted_worker_held_counts_no_crash(ledger, seed):
    """Its last life fell silent together with the chunk."""
    seed(1)
    expire_box(ledger, claim(ledger).chunk_id)
    register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-2"}), replaces="ann-1")
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(0, 1)]


def test_a_ledger_that_was_away_past_the_lease_counts_no_crash(ledger, seed):
    """The worker's heartbeats stopped with the renewals; that it is heard again proves nothing of the process."""
    seed(1)
    expire_box(ledger, claim(ledger).chunk_id)
    heartbeat_worker(ledger, "ann", instance="ann-1")
    sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(0, 1)]


def test_a_heartbeat_in_time_lets_the_series_go_on(ledger, seed):
    """A worker that is heard all along outlives the process that died under it."""
    seed(1)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '25 s'")
    heartbeat_worker(ledger, "ann", instance="ann-1")
    sweep_stale_claims(ledger)
    assert fetch(ledger, "SELECT validation_crashes, validation_losses FROM video_queue") == [(1, 0)]


def test_a_video_that_takes_its_box_along_is_found_too(ledger, seed):
    """Each fourth loss is a crash: so it travels alone before it is given up, and its mates are validated."""
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


def test_poison_fails_alone_and_its_mates_lose_nothing(ledger, seed):
    """A video that kills its process three times fails with that reason; every mate is validated, no attempt spent."""
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


def test_a_restarted_worker_takes_back_what_its_last_life_held(ledger, seed):
    """Chunks open under a worker's id when it registers are dead, and claimable at once."""
    seed(3)
    claim(ledger, worker_id="ann")
    again = WorkerProfile("ann", config={"instance": "ann-2"})
    assert register_worker(ledger, again, replaces="ann-1") == 1
    assert len(claim(ledger, worker_id="bob").videos) == 3


def test_two_live_machines_cannot_share_a_worker_id(ledger, seed):
    """The second is refused, with the first one's name, until the first falls silent."""
    seed(1)
    twin = WorkerProfile("ann", config={"instance": "ann-2"})
    with pytest.raises(WorkerIdTaken, match="ann-1"):
        register_worker(ledger, twin)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '61 s' WHERE worker_id = 'ann'")
    register_worker(ledger, twin)


@pytest.mark.parametrize("call", [heartbeat_worker, drain_worker, retire_worker])
def test_a_succeeded_worker_speaks_for_nobody(ledger, seed, call):
    """Who was silent so long that another took its place neither revives, drains nor retires the worker that lives."""
    seed(2)
    register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-2"}), replaces="ann-1")
    claim(ledger, worker_id="ann")
    with pytest.raises(WorkerIdTaken, match="ann-2"):
        call(ledger, "ann", instance="ann-1")
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("online",)]
    assert fetch(ledger, "SELECT state FROM validation_chunks") == [("open",)]
    call(ledger, "ann", instance="ann-2")


def test_a_retiring_worker_returns_what_it_holds(ledger, seed):
    """Goodbye costs no attempt."""
    seed(3)
    claim(ledger, worker_id="ann")
    assert retire_worker(ledger, "ann") == 1
    assert fetch(ledger, "SELECT max(validation_attempts), max(validation_crashes) FROM video_queue") == [(0, 0)]
    assert fetch(ledger, "SELECT status, flow_run_ids FROM worker_validators WHERE worker_id = 'ann'") == [
        ("offline", [])
    ]


def test_silence_is_flagged_and_a_heartbeat_lifts_the_flag(ledger, seed):
    """A worker that is silent for the length of a lease is stale until it speaks."""
    seed(1)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s' WHERE worker_id = 'ann'")
    assert mark_stale_workers(ledger) == ["ann"]
    heartbeat_worker(ledger, "ann", instance="ann-1")
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("online",)]


def test_a_worker_that_hangs_is_not_kept_alive_by_its_flow_runs(ledger, seed):
    """A renewal and a commit say what is in hand, and nothing of the worker's own process."""
    seed(1)
    chunk = claim(ledger)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s' WHERE worker_id = 'ann'")
    renew_chunk(ledger, chunk, Progress(current_video_id="v0000"))
    assert mark_stale_workers(ledger) == ["ann"]
    assert fetch(ledger, "SELECT current_video_id FROM worker_validators WHERE worker_id = 'ann'") == [("v0000",)]
    commit_chunk(ledger, chunk.chunk_id, shard=shard(of=chunk), validated={"v0000": 1}, failed=[], max_attempts=3)
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("stale",)]


def test_nobody_waits_for_a_machine_that_was_silent_for_a_day(ledger, seed):
    """It is gone without goodbye: offline, and no alarm any more; should it speak after all, it is back."""
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


def test_a_stranded_video_is_found_by_the_last_net(ledger, seed):
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

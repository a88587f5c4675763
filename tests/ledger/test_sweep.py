from uuid import uuid4

import pytest
from ledger_steps import claim, execute, expire, fetch, shard, statuses
from sqlalchemy import text

from validation.domain import WorkerProfile
from validation.ledger.calls import WorkerIdTaken
from validation.ledger.protocol import (
    commit_chunk,
    drain_worker,
    flag_silent_workers,
    heartbeat_worker,
    register_worker,
    release_stranded_videos,
    retire_worker,
    sweep_stale_claims,
)


def test_a_live_chunk_is_not_swept(ledger, seed):
    """A chunk within its lease stays with its holder, whatever the sweeper thinks of its worker."""
    seed(3)
    claim(ledger)
    execute(ledger, "UPDATE worker_validators SET status = 'stale', last_heartbeat_at = now() - interval '1 h'")
    assert sweep_stale_claims(ledger) == []


def test_a_chunk_whose_run_ended_is_swept_at_once(ledger, seed):
    """The orchestrator's word that a flow run ended frees its videos long before the lease does."""
    seed(3)
    chunk = claim(ledger, flow_run_id=(run := uuid4()))
    (swept,) = sweep_stale_claims(ledger, ended_runs=[uuid4(), run])
    assert (swept.chunk_id, swept.reason) == (chunk.chunk_id, "flow run ended")


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
    assert register_worker(ledger, again, succeeds="ann-1") == 1
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
    register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-2"}), succeeds="ann-1")
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
    """A worker silent for two minutes is stale until it speaks."""
    seed(1)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '121 s' WHERE worker_id = 'ann'")
    assert flag_silent_workers(ledger) == ["ann"]
    heartbeat_worker(ledger, "ann")
    assert fetch(ledger, "SELECT status FROM worker_validators WHERE worker_id = 'ann'") == [("online",)]


def test_nobody_waits_for_a_machine_that_was_silent_for_a_day(ledger, seed):
    """It is gone without goodbye: offline, and no alarm any more; should it speak after all, it is back."""
    seed(1)
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '23 h' WHERE worker_id = 'ann'")
    assert flag_silent_workers(ledger) == ["ann"]
    assert flag_silent_workers(ledger) == []
    alarm = "SELECT worker_id FROM validation.worker_liveness WHERE liveness = 'stale'"
    assert fetch(ledger, alarm) == [("ann",)]
    execute(ledger, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '25 h' WHERE worker_id = 'ann'")
    assert flag_silent_workers(ledger) == []
    assert fetch(ledger, alarm) == []
    heartbeat_worker(ledger, "ann")
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
    assert release_stranded_videos(ledger) == 3
    assert {v for v, status in statuses(ledger).items() if status == "validating"} == {v.video_id for v in held.videos}

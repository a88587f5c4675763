from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from prefect.states import AwaitingRetry, Completed, Crashed, Pending, Running
from prefect.types._datetime import now
from sqlalchemy import text

from flows.dispatch import dispatch_chunks
from flows.sweep import sweep_stale_claims
from tasks.control import correct, correct_state, outlived_worker, read_runs, reconcile_flow_runs
from tests.support.ledger_helpers import claim, execute, expire, fetch, statuses, stop_heartbeat
from validation.control.sweep import SweepIncomplete
from validation.domain import WorkerProfile
from validation.errors import Unreachable
from validation.ledger.chunks import release_chunk
from validation.ledger.queries import WorkerSession
from validation.ledger.workers import register_worker


@flow
def some_chunk() -> None:
    """Stands for a chunk's run: the sweeper looks at states, not at names, where it knows the run."""


def a_run(prefect, state) -> FlowRun:
    run = prefect.create_flow_run(some_chunk)
    prefect.set_flow_run_state(run.id, state, force=True)
    return run


def test_a_chunk_is_freed_when_prefect_knows_that_its_run_ended(prefect, flow_box):
    """Before its lease ends, once its worker has outlived it."""
    flow_box.add_videos("a", "b")
    ended, alive = a_run(prefect, Crashed()), a_run(prefect, Running())
    died = claim(flow_box.engine, size=1, flow_run_id=ended.id)
    expire(flow_box.engine, died.chunk_id)
    stop_heartbeat(flow_box.engine, died.chunk_id, lease_left_s=20)
    kept = claim(flow_box.engine, size=1, flow_run_id=alive.id)
    assert sweep_stale_claims() == "1 chunks, 0 orphans, 0 silent workers"
    assert sorted(statuses(flow_box.engine).values()) == ["pending", "validating"]
    assert statuses(flow_box.engine)[kept.videos[0].video_id] == "validating"


def test_a_run_that_is_crashed_by_mistake_keeps_its_chunk(prefect, flow_box):
    """By the automation, by hand or while it waited for its model host: it renews, so it lives."""
    flow_box.add_videos("a")
    run = a_run(prefect, Crashed())
    claim(flow_box.engine, flow_run_id=run.id)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"validating"}


def test_a_run_that_prefect_does_not_know_is_judged_by_the_clock(prefect, flow_box):
    """A Prefect server that lost its database, or belongs to another fleet, ends no chunk."""
    flow_box.add_videos("a")
    chunk = claim(flow_box.engine, flow_run_id=uuid4())
    expire(flow_box.engine, chunk.chunk_id)
    stop_heartbeat(flow_box.engine, chunk.chunk_id, lease_left_s=20)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"validating"}
    expire(flow_box.engine, chunk.chunk_id)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"pending"}


def test_the_clock_does_not_wait_for_prefect(prefect, flow_box, monkeypatch):
    """What lapsed is claimable before Prefect is asked; and a Prefect that is away is not asked for a minute."""
    flow_box.add_videos("a", "b")
    expire(flow_box.engine, claim(flow_box.engine, size=1).chunk_id)
    held = claim(flow_box.engine, size=1)
    seen = []

    def ask(**_):
        seen.append((set(statuses(flow_box.engine).values()), PREFECT_CLIENT_MAX_RETRIES.value()))
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.control.read_runs", ask)
    sweep_stale_claims(orphans=False)
    assert seen == [({"pending", "validating"}, 0)] * 2  # of ended runs, then of zombies
    assert statuses(flow_box.engine)[held.videos[0].video_id] == "validating"


def test_a_step_that_fails_keeps_no_other_from_its_work(prefect, flow_box, monkeypatch):
    """With the store away claims are freed and told all the same, and the run says at its end what failed."""
    flow_box.add_videos("a")
    expire(flow_box.engine, claim(flow_box.engine).chunk_id)

    def away(*_):
        raise Unreachable("the object store", "r2", "check it", "connection refused")

    for step in ("evaluate_canaries", "find_strays", "requeue_stranded_videos"):
        monkeypatch.setattr(f"validation.control.sweep.{step}", away)
    with pytest.raises(SweepIncomplete, match=r"3 steps.*connection refused"):
        sweep_stale_claims()
    assert set(statuses(flow_box.engine).values()) == {"pending"}
    assert "connection refused" in Artifact.get("sweep").data


def test_a_chunk_that_a_vanished_box_has_locked_is_named(prefect, flow_box):
    """A locked chunk cannot be taken before its transaction ends; the report says so."""
    flow_box.add_videos("a")
    chunk = claim(flow_box.engine)
    expire(flow_box.engine, chunk.chunk_id)
    with flow_box.engine.begin() as call:
        call.execute(text("SELECT FROM worker_validators FOR UPDATE"))
        sweep_stale_claims(orphans=False)
    assert "chunk is locked" in Artifact.get("sweep").data


def test_without_prefect_the_clock_decides(prefect, flow_box, monkeypatch):
    """When Prefect cannot be asked, leases that ended are swept all the same, and no others."""
    flow_box.add_videos("a", "b")
    ended = a_run(prefect, Completed())
    claim(flow_box.engine, size=1, flow_run_id=ended.id)
    expired = claim(flow_box.engine, size=1, flow_run_id=a_run(prefect, Running()).id)
    expire(flow_box.engine, expired.chunk_id)

    def away(**_):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.control.read_runs", away)
    sweep_stale_claims()
    assert fetch(flow_box.engine, "SELECT state, close_reason FROM validation_chunks ORDER BY state") == [
        ("expired", "lease expired"), ("open", None),
    ]  # fmt: skip


def test_a_sweep_leaves_a_report_of_what_it_did(prefect, flow_box):
    """An artifact names each chunk that was taken back, its worker and the reason."""
    flow_box.add_videos("a", "b")
    expire(flow_box.engine, claim(flow_box.engine, flow_run_id=a_run(prefect, Running()).id).chunk_id)
    sweep_stale_claims()
    assert "ann: lease expired" in Artifact.get("sweep").data


HOLDS, IDLE = {"is_holding": True, "is_lost": False}, {"is_holding": False, "is_lost": False}


@pytest.mark.parametrize(
    ("state", "age", "facts", "expected"),
    [
        (Running(), timedelta(hours=3), HOLDS, None),
        (Running(), timedelta(hours=3), IDLE, Crashed),
        (Running(), timedelta(minutes=6), IDLE, None),  # it may wait for its model host
        (Running(), timedelta(minutes=1), {"is_holding": False, "is_lost": True}, Crashed),
        (Running(), timedelta(minutes=1), {"is_holding": True, "is_lost": True}, None),
        (Pending(), timedelta(minutes=6), IDLE, None),
        (Pending(), timedelta(minutes=11), IDLE, AwaitingRetry),
        (Pending(), timedelta(minutes=1), IDLE | {"is_orphan": True}, AwaitingRetry),
        (Running(), timedelta(minutes=1), IDLE | {"is_orphan": True}, Crashed),
        (Running(), timedelta(minutes=1), HOLDS | {"is_orphan": True}, None),
    ],
)
def test_prefect_is_told_the_truth(state, age, facts, expected):
    """A run is a zombie when its chunk was taken, or when it has held none for minutes; a stuck one is put back.

    One that holds a living chunk is alive, whatever else was taken in its name.
    """
    state.timestamp = now("UTC") - age
    told = correct_state(FlowRun(flow_id=uuid4(), state=state), **facts)
    assert (told.name if told else None) == (expected().name if expected else None)


@pytest.mark.parametrize(
    ("status", "began", "outlived"),
    [
        ("online", timedelta(minutes=-5), False),  # the life that took the run
        ("online", timedelta(seconds=5), False),  # clocks may differ by so much
        ("online", timedelta(seconds=30), True),  # another life
        ("stale", timedelta(minutes=-5), True),
        ("offline", timedelta(minutes=-5), True),
    ],
)
def test_a_run_does_not_outlive_its_worker(status, began, outlived):
    """Runs of an earlier session of a worker are marked Crashed; runs of an unknown worker are left alone."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    life = WorkerSession("ann-1", "ann", status, taken.timestamp + began)
    assert outlived_worker(run, [life]) is outlived
    assert not outlived_worker(run, [WorkerSession("bob-1", "bob", "offline", taken.timestamp)])


@pytest.mark.parametrize("status", ["online", "offline"])
def test_a_worker_that_takes_anothers_name_makes_no_orphan_of_its_runs(status):
    """A box that registers as what Prefect knows another one by, later or earlier in the list, ends nothing of its."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    ann = WorkerSession("ann-1", "ann", "online", taken.timestamp - timedelta(minutes=5))
    eve = WorkerSession("eve", "ann", status, taken.timestamp + timedelta(minutes=5))
    assert not outlived_worker(run, [ann, eve])
    assert not outlived_worker(run, [eve, ann])


def test_a_run_that_no_worker_took_is_nobodys_orphan():
    """A worker whose name Prefect does not know, as of `vfleet run-chunk`, is not its taker."""
    run = FlowRun(flow_id=uuid4(), state=Running())
    assert not outlived_worker(run, [WorkerSession("ann-1", None, "offline", now("UTC") - timedelta(hours=1))])


@pytest.fixture
def eve(flow_box):
    """A worker in wrong hands beside ann, who is known to Prefect by a name of her own."""
    for name in ("ann", "eve"):
        register_worker(
            flow_box.engine,
            WorkerProfile(name, config={"instance": f"{name}-1"}, prefect_worker=name),
            replaces="ann-1",
        )
    return flow_box


@pytest.fixture
def chunk_run(prefect):
    """Makes runs of the deployment that boxes take, as the sweep looks for them; they go with the test."""
    made = []

    def make(worker: str) -> FlowRun:
        deployment = prefect.create_deployment(prefect.create_flow_from_name("validate-chunk"), "validate-chunk")
        run = prefect.create_flow_run_from_deployment(deployment)
        made.append(run.id)
        prefect.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
        prefect.set_flow_run_state(run.id, Running(), force=True)
        return run

    yield make
    for run_id in made:
        prefect.delete_flow_run(run_id)


@pytest.mark.parametrize("she_claims", ["before", "never"])
def test_a_chunk_that_lapses_under_anothers_run_ends_nothing_of_its(prefect, chunk_run, eve, she_claims):
    """A box claims in the name of a run that it knows of and lets the lease go: neither run nor chunk is lost."""
    eve.add_videos("a", "b")
    run = chunk_run("ann")
    held = claim(eve.engine, size=1, flow_run_id=run.id) if she_claims == "before" else None
    lapsed = claim(eve.engine, worker_id="eve", size=1, flow_run_id=run.id)
    expire(eve.engine, lapsed.chunk_id)
    for _ in range(2):
        sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_running()
    if held:
        assert statuses(eve.engine)[held.videos[0].video_id] == "validating"


def test_a_run_whose_own_chunk_lapsed_is_crashed(prefect, chunk_run, eve):
    """Its worker took it and held the chunk: what the sweep takes back was its."""
    eve.add_videos("a")
    run = chunk_run("ann")
    expire(eve.engine, claim(eve.engine, flow_run_id=run.id).chunk_id)
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_a_run_that_has_just_committed_is_left_to_tell_so(prefect, chunk_run, eve):
    """It holds nothing any more and is as old as can be; a minute later, it is a zombie."""
    eve.add_videos("a")
    run = chunk_run("ann")
    release_chunk(eve.engine, claim(eve.engine, flow_run_id=run.id).chunk_id, reason="done")
    execute(eve.engine, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_running()
    execute(eve.engine, "UPDATE validation_chunks SET closed_at = now() - interval '61 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_what_a_silent_worker_took_is_put_back_or_crashed_at_once(prefect, chunk_run, eve):
    """Runs that never claimed, as soon as their worker is stale."""
    pending, running = (chunk_run("ann") for _ in range(2))
    prefect.set_flow_run_state(pending.id, Pending(), force=True)
    execute(eve.engine, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(pending.id).state.name == "AwaitingRetry"
    assert prefect.read_flow_run(running.id).state.is_crashed()


def test_a_run_that_told_its_end_meanwhile_keeps_it(prefect, chunk_run, flow_box):
    """Between the look and the word it completed: neither state is changed, nor would the server let an end be."""
    run = chunk_run("ann")
    seen = prefect.read_flow_run(run.id)
    prefect.set_flow_run_state(run.id, Completed())
    assert not correct(prefect, seen, Crashed())
    assert not correct(prefect, prefect.read_flow_run(run.id), Crashed())
    assert prefect.read_flow_run(run.id).state.is_completed()


def test_a_control_run_without_a_process_is_crashed(prefect, flow_box, monkeypatch):
    """One that a killed worker left Running would hold its deployment's only slot for ever."""
    deployment = prefect.create_deployment(prefect.create_flow(dispatch_chunks), "dispatch-chunks")
    run = prefect.create_flow_run_from_deployment(deployment, state=Running())
    assert not [told for told in reconcile_flow_runs.fn([], [], []) if run.name in told]

    monkeypatch.setattr("tasks.control.MAX_CONTROL_RUN_AGE", timedelta(0))
    assert f"{run.name}: Crashed" in reconcile_flow_runs.fn([], [], [])
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_dispatch_follows_slots_and_queue(prefect, flow_box, tmp_path):
    """Runs are created for the workers online, once; a second tick creates none."""
    flow_box.add_videos(*(f"v{n}" for n in range(20)), tar=False)
    prefect.create_deployment(
        flow_id=prefect.create_flow_from_name("validate-chunk"), name="validate-chunk",
    )  # fmt: skip
    assert dispatch_chunks(chunk_videos=5) == 4  # two workers with one slot each, and as many waiting
    assert dispatch_chunks(chunk_videos=5) == 0
    assert {run.name[:13] for run in read_runs(states=["SCHEDULED"])} == {"waiting since"}

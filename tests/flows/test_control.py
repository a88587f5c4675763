"""The control flows on a real Prefect server: the sweep, the correction of flow run states, and the dispatch."""

from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES
from prefect.states import Completed, Crashed, Pending, Running
from prefect.types._datetime import now
from sqlalchemy import text

from flows.dispatch import dispatch_chunks
from flows.sweep import sweep_stale_claims
from tasks.control import find_correction, is_worker_session_over, read_runs, reconcile_flow_runs, replace_state
from tests.support.ledger_helpers import claim, execute, expire, fetch, statuses, stop_heartbeat
from validation.control.sweep import SweepIncomplete
from validation.domain import WorkerProfile
from validation.errors import Unreachable
from validation.ledger.chunks import release_chunk
from validation.ledger.queries import WorkerSession
from validation.ledger.workers import register_worker


@flow
def stand_in_for_a_chunk() -> None:
    """A flow that stands for a chunk's flow: where the sweep knows a run, it reads its state and not its name."""


def make_run(prefect, state) -> FlowRun:
    """A flow run in the given state."""
    run = prefect.create_flow_run(stand_in_for_a_chunk)
    prefect.set_flow_run_state(run.id, state, force=True)
    return run


def test_chunk_of_an_ended_run_is_taken_back_before_its_lease_ends(prefect, flow_box):
    """The worker must have outlived the run; a chunk whose run is Running is left alone."""
    flow_box.add_videos("a", "b")
    ended, alive = make_run(prefect, Crashed()), make_run(prefect, Running())
    died = claim(flow_box.engine, size=1, flow_run_id=ended.id)
    expire(flow_box.engine, died.chunk_id)
    stop_heartbeat(flow_box.engine, died.chunk_id, lease_left_s=20)
    kept = claim(flow_box.engine, size=1, flow_run_id=alive.id)
    assert sweep_stale_claims() == "1 chunks, 0 orphans, 0 silent workers"
    assert sorted(statuses(flow_box.engine).values()) == ["pending", "validating"]
    assert statuses(flow_box.engine)[kept.videos[0].video_id] == "validating"


def test_run_marked_crashed_by_mistake_keeps_its_chunk(prefect, flow_box):
    """An automation or an operator may mark a living run Crashed; it renews its lease, so its chunk is kept."""
    flow_box.add_videos("a")
    run = make_run(prefect, Crashed())
    claim(flow_box.engine, flow_run_id=run.id)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"validating"}


def test_chunk_of_an_unknown_run_is_taken_back_by_its_lease_only(prefect, flow_box):
    """A Prefect server that lost its database, or serves another fleet, ends no chunk."""
    flow_box.add_videos("a")
    chunk = claim(flow_box.engine, flow_run_id=uuid4())
    expire(flow_box.engine, chunk.chunk_id)
    stop_heartbeat(flow_box.engine, chunk.chunk_id, lease_left_s=20)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"validating"}
    expire(flow_box.engine, chunk.chunk_id)
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"pending"}


def test_expired_leases_are_swept_before_prefect_is_asked(prefect, flow_box, monkeypatch):
    """Prefect is asked afterwards and without retries, so an unreachable server delays nothing."""
    flow_box.add_videos("a", "b")
    expire(flow_box.engine, claim(flow_box.engine, size=1).chunk_id)
    held = claim(flow_box.engine, size=1)
    seen = []

    def fail_to_read_runs(**_):
        seen.append((set(statuses(flow_box.engine).values()), PREFECT_CLIENT_MAX_RETRIES.value()))
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.control.read_runs", fail_to_read_runs)
    sweep_stale_claims(orphans=False)
    assert seen == [({"pending", "validating"}, 0)] * 2  # of ended runs, then of zombies
    assert statuses(flow_box.engine)[held.videos[0].video_id] == "validating"


def test_failing_step_does_not_stop_the_other_steps(prefect, flow_box, monkeypatch):
    """With failing steps the leases are swept and reported all the same, and the run fails with every error."""
    flow_box.add_videos("a")
    expire(flow_box.engine, claim(flow_box.engine).chunk_id)

    def raise_unreachable(*_):
        raise Unreachable("the object store", "r2", "check it", "connection refused")

    for step in ("evaluate_canaries", "remove_orphans", "requeue_stranded_videos"):
        monkeypatch.setattr(f"validation.control.sweep.{step}", raise_unreachable)
    with pytest.raises(SweepIncomplete, match=r"3 steps.*connection refused"):
        sweep_stale_claims()
    assert set(statuses(flow_box.engine).values()) == {"pending"}
    assert "connection refused" in Artifact.get("sweep").data


def test_locked_chunk_is_named_in_the_report(prefect, flow_box):
    """A chunk cannot be taken back before the transaction that locks it ends."""
    flow_box.add_videos("a")
    chunk = claim(flow_box.engine)
    expire(flow_box.engine, chunk.chunk_id)
    with flow_box.engine.begin() as call:
        call.execute(text("SELECT FROM worker_validators FOR UPDATE"))
        sweep_stale_claims(orphans=False)
    assert "chunk is locked" in Artifact.get("sweep").data


def test_without_prefect_only_expired_leases_are_swept(prefect, flow_box, monkeypatch):
    """If Prefect cannot be asked, chunks of ended runs wait for the end of their lease."""
    flow_box.add_videos("a", "b")
    ended = make_run(prefect, Completed())
    claim(flow_box.engine, size=1, flow_run_id=ended.id)
    expired = claim(flow_box.engine, size=1, flow_run_id=make_run(prefect, Running()).id)
    expire(flow_box.engine, expired.chunk_id)

    def raise_unreachable(**_):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr("tasks.control.read_runs", raise_unreachable)
    sweep_stale_claims()
    assert fetch(flow_box.engine, "SELECT state, close_reason FROM validation_chunks ORDER BY state") == [
        ("expired", "lease expired"), ("open", None),
    ]  # fmt: skip


def test_sweep_publishes_what_it_did(prefect, flow_box):
    """An artifact names each chunk that was taken back, its worker and the reason."""
    flow_box.add_videos("a", "b")
    expire(flow_box.engine, claim(flow_box.engine, flow_run_id=make_run(prefect, Running()).id).chunk_id)
    sweep_stale_claims()
    assert "ann: lease expired" in Artifact.get("sweep").data


HOLDS, IDLE = {"is_holding": True, "is_lost": False}, {"is_holding": False, "is_lost": False}


@pytest.mark.parametrize(
    ("state", "age", "facts", "expected"),
    [
        (Running(), timedelta(hours=3), HOLDS, None),
        (Running(), timedelta(hours=3), IDLE, Crashed),
        (Running(), timedelta(minutes=6), IDLE, None),  # it may wait for its inference server
        (Running(), timedelta(minutes=1), {"is_holding": False, "is_lost": True}, Crashed),
        (Running(), timedelta(minutes=1), {"is_holding": True, "is_lost": True}, None),
        (Pending(), timedelta(minutes=6), IDLE, None),
        (Pending(), timedelta(minutes=11), IDLE, Crashed),
        (Pending(), timedelta(minutes=1), IDLE | {"is_orphan": True}, Crashed),
        (Running(), timedelta(minutes=1), IDLE | {"is_orphan": True}, Crashed),
        (Running(), timedelta(minutes=1), HOLDS | {"is_orphan": True}, None),
    ],
)
def test_state_of_a_run_without_a_process_is_corrected(state, age, facts, expected):
    """A run that lost its chunk, held none for minutes, or never started, becomes Crashed.

    A run that holds a chunk is alive, whatever other chunks were taken back under its name.
    """
    state.timestamp = now("UTC") - age
    told = find_correction(FlowRun(flow_id=uuid4(), state=state), **facts)
    assert (told.name if told else None) == (expected().name if expected else None)


@pytest.mark.parametrize(
    ("status", "began", "outlived"),
    [
        ("online", timedelta(minutes=-5), False),  # the session that took the run
        ("online", timedelta(seconds=5), False),  # clocks may differ by so much
        ("online", timedelta(seconds=30), True),  # another session
        ("stale", timedelta(minutes=-5), True),
        ("offline", timedelta(minutes=-5), True),
    ],
)
def test_run_of_an_earlier_session_is_an_orphan(status, began, outlived):
    """Runs of an earlier session of a worker are marked Crashed; runs of an unknown worker are left alone."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    session = WorkerSession("ann-1", "ann", status, taken.timestamp + began)
    assert is_worker_session_over(run, [session]) is outlived
    assert not is_worker_session_over(run, [WorkerSession("bob-1", "bob", "offline", taken.timestamp)])


@pytest.mark.parametrize("status", ["online", "offline"])
def test_second_worker_of_a_prefect_name_makes_no_orphan(status):
    """A box that registers under another worker's Prefect name ends none of that worker's runs."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    ann = WorkerSession("ann-1", "ann", "online", taken.timestamp - timedelta(minutes=5))
    eve = WorkerSession("eve", "ann", status, taken.timestamp + timedelta(minutes=5))
    assert not is_worker_session_over(run, [ann, eve])
    assert not is_worker_session_over(run, [eve, ann])


def test_run_without_a_worker_is_no_orphan():
    """A worker without a Prefect name, as of `vfleet run-chunk`, took no flow run."""
    run = FlowRun(flow_id=uuid4(), state=Running())
    assert not is_worker_session_over(run, [WorkerSession("ann-1", None, "offline", now("UTC") - timedelta(hours=1))])


@pytest.fixture
def two_workers(flow_box):
    """The box with two workers, ann and eve; eve is compromised."""
    for name in ("ann", "eve"):
        register_worker(
            flow_box.engine,
            WorkerProfile(name, config={"instance": f"{name}-1"}, prefect_worker=name),
            replaces="ann-1",
        )
    return flow_box


@pytest.fixture
def chunk_run(prefect):
    """Make running flow runs of the deployment `validate-chunk` that a worker took; they are deleted after the test."""
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


@pytest.mark.parametrize("other_claim", ["before", "never"])
def test_expired_chunk_under_another_workers_run_ends_neither(prefect, chunk_run, two_workers, other_claim):
    """A box that claims under another box's flow run and lets the lease expire ends neither that run nor its chunk."""
    two_workers.add_videos("a", "b")
    run = chunk_run("ann")
    held = claim(two_workers.engine, size=1, flow_run_id=run.id) if other_claim == "before" else None
    lapsed = claim(two_workers.engine, worker_id="eve", size=1, flow_run_id=run.id)
    expire(two_workers.engine, lapsed.chunk_id)
    for _ in range(2):
        sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_running()
    if held:
        assert statuses(two_workers.engine)[held.videos[0].video_id] == "validating"


def test_run_whose_chunk_expired_is_crashed(prefect, chunk_run, two_workers):
    """The worker that took the run also held the chunk, so the run is dead."""
    two_workers.add_videos("a")
    run = chunk_run("ann")
    expire(two_workers.engine, claim(two_workers.engine, flow_run_id=run.id).chunk_id)
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_run_that_just_closed_its_chunk_gets_a_minute_to_end(prefect, chunk_run, two_workers):
    """It holds no chunk any more; it is marked Crashed only if it still runs a minute later."""
    two_workers.add_videos("a")
    run = chunk_run("ann")
    release_chunk(two_workers.engine, claim(two_workers.engine, flow_run_id=run.id).chunk_id, reason="done")
    execute(two_workers.engine, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_running()
    execute(two_workers.engine, "UPDATE validation_chunks SET closed_at = now() - interval '61 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_runs_of_a_stale_worker_are_crashed(prefect, chunk_run, two_workers):
    """Pending and running ones, as soon as their worker is stale."""
    pending, running = (chunk_run("ann") for _ in range(2))
    prefect.set_flow_run_state(pending.id, Pending(), force=True)
    execute(two_workers.engine, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s'")
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(pending.id).state.is_crashed()
    assert prefect.read_flow_run(running.id).state.is_crashed()


@pytest.mark.attack
def test_nothing_that_a_box_wrote_into_a_run_reaches_another_box(prefect, chunk_run, two_workers):
    """A run that a box took, described and did not start is offered to no worker again; dispatch makes a fresh one."""
    two_workers.add_videos("a", tar=False)
    for left in read_runs(states=["SCHEDULED", "PENDING", "RUNNING"]):  # of other tests: dispatch counts them
        prefect.delete_flow_run(left.id)
    taken = chunk_run("eve")
    prefect.set_flow_run_state(taken.id, Pending(data={"foreign": "data"}, message="foreign"), force=True)
    prefect.update_flow_run(taken.id, name="foreign", flow_version="foreign", infrastructure_pid="foreign")
    execute(two_workers.engine, "UPDATE worker_validators SET last_heartbeat_at = now() - interval '76 s'"
                                " WHERE worker_id = 'eve'")  # fmt: skip
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(taken.id).state.is_crashed()
    assert dispatch_chunks() > 0
    waiting = read_runs(states=["SCHEDULED"])
    for run in waiting:
        assert "foreign" not in run.model_dump_json()
        prefect.delete_flow_run(run.id)


def test_run_that_ended_since_it_was_read_keeps_its_state(prefect, chunk_run, flow_box):
    """A run that completed between the read and the correction is not changed."""
    run = chunk_run("ann")
    seen = prefect.read_flow_run(run.id)
    prefect.set_flow_run_state(run.id, Completed())
    assert not replace_state(prefect, seen, Crashed())
    assert not replace_state(prefect, prefect.read_flow_run(run.id), Crashed())
    assert prefect.read_flow_run(run.id).state.is_completed()


def test_old_control_run_is_crashed(prefect, flow_box, monkeypatch):
    """A control run that a killed worker left Running would hold the only slot of its deployment."""
    deployment = prefect.create_deployment(prefect.create_flow(dispatch_chunks), "dispatch-chunks")
    run = prefect.create_flow_run_from_deployment(deployment, state=Running())
    assert not [told for told in reconcile_flow_runs.fn([], [], []) if run.name in told]

    monkeypatch.setattr("tasks.control.MAX_CONTROL_RUN_AGE", timedelta(0))
    assert f"{run.name}: Crashed" in reconcile_flow_runs.fn([], [], [])
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_dispatch_follows_slots_and_queue(prefect, flow_box, tmp_path):
    """Runs are created for the slots of the online workers, once; a second tick creates none."""
    flow_box.add_videos(*(f"v{n}" for n in range(20)), tar=False)
    prefect.create_deployment(
        flow_id=prefect.create_flow_from_name("validate-chunk"), name="validate-chunk",
    )  # fmt: skip
    assert dispatch_chunks(chunk_videos=5) == 4  # two workers with one slot each, and as many waiting
    assert dispatch_chunks(chunk_videos=5) == 0
    assert {run.name[:13] for run in read_runs(states=["SCHEDULED"])} == {"waiting since"}

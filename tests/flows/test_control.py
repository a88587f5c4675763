from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from ledger_steps import claim, expire, fetch, statuses
from prefect import flow
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Completed, Crashed, Pending, Running
from prefect.types._datetime import now

from flows.dispatch import dispatch_chunks
from flows.sweep import sweep_stale_claims
from tasks.control import correct_state, outlived_worker, tell_prefect
from validation.domain import WorkerProfile
from validation.ledger.protocol import register_worker
from validation.ledger.views import WorkerLife


@flow
def some_chunk() -> None:
    """Stands for a chunk's run: the sweeper looks at states, not at names, where it knows the run."""


def a_run(prefect, state) -> FlowRun:
    run = prefect.create_flow_run(some_chunk)
    prefect.set_flow_run_state(run.id, state, force=True)
    return run


def test_a_chunk_is_freed_when_prefect_knows_that_its_run_ended(prefect, flow_box):
    """Long before its lease ends."""
    flow_box.add_videos("a", "b")
    ended, alive = a_run(prefect, Crashed()), a_run(prefect, Running())
    claim(flow_box.engine, size=1, flow_run_id=ended.id)
    kept = claim(flow_box.engine, size=1, flow_run_id=alive.id)
    assert sweep_stale_claims() == "1 chunks, 0 orphans, 0 silent workers"
    assert sorted(statuses(flow_box.engine).values()) == ["pending", "validating"]
    assert statuses(flow_box.engine)[kept.videos[0].video_id] == "validating"


def test_a_run_that_prefect_does_not_know_is_over(prefect, flow_box):
    """Deleted from Prefect's database, or from another one: nobody works on it."""
    flow_box.add_videos("a")
    claim(flow_box.engine, flow_run_id=uuid4())
    sweep_stale_claims(orphans=False)
    assert set(statuses(flow_box.engine).values()) == {"pending"}


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
    """An artifact tells which chunk was taken from whom and why."""
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
        (Running(), timedelta(minutes=1), IDLE, None),
        (Running(), timedelta(minutes=1), {"is_holding": False, "is_lost": True}, Crashed),
        (Running(), timedelta(minutes=1), {"is_holding": True, "is_lost": True}, None),
        (Pending(), timedelta(minutes=1), IDLE, None),
        (Pending(), timedelta(minutes=4), IDLE, AwaitingRetry),
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
        ("stale", timedelta(minutes=-5), False),  # silent, which is not dead
        ("offline", timedelta(minutes=-5), True),
    ],
)
def test_a_run_does_not_outlive_its_worker(status, began, outlived):
    """What a worker took in an earlier life died with that; what no known worker took is nobody's orphan."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    life = WorkerLife("ann-1", "ann", status, taken.timestamp + began)
    assert outlived_worker(run, [life]) is outlived
    assert not outlived_worker(run, [WorkerLife("bob-1", "bob", "offline", taken.timestamp)])


@pytest.mark.parametrize("status", ["online", "offline"])
def test_a_worker_that_takes_anothers_name_makes_no_orphan_of_its_runs(status):
    """A box that registers as what Prefect knows another one by, later or earlier in the list, ends nothing of its."""
    taken = Running()
    run = FlowRun(flow_id=uuid4(), state=taken, labels={"prefect.worker.name": "ann"})
    ann = WorkerLife("ann-1", "ann", "online", taken.timestamp - timedelta(minutes=5))
    eve = WorkerLife("eve", "ann", status, taken.timestamp + timedelta(minutes=5))
    assert not outlived_worker(run, [ann, eve])
    assert not outlived_worker(run, [eve, ann])


def test_a_run_that_no_worker_took_is_nobodys_orphan():
    """A worker whose name Prefect does not know, as of `vfleet run-chunk`, is not its taker."""
    run = FlowRun(flow_id=uuid4(), state=Running())
    assert not outlived_worker(run, [WorkerLife("ann-1", None, "offline", now("UTC") - timedelta(hours=1))])


@pytest.fixture
def eve(flow_box):
    """A worker in wrong hands beside ann, who is known to Prefect by a name of her own."""
    for name in ("ann", "eve"):
        register_worker(
            flow_box.engine,
            WorkerProfile(name, config={"instance": f"{name}-1"}, prefect_worker=name),
            succeeds="ann-1",
        )
    return flow_box


def chunk_deployment_run(prefect, worker: str) -> FlowRun:
    """A run of the deployment that boxes take, as the sweep looks for it."""
    deployment = prefect.create_deployment(prefect.create_flow_from_name("validate-chunk"), "validate-chunk")
    run = prefect.create_flow_run_from_deployment(deployment)
    prefect.update_flow_run_labels(run.id, {"prefect.worker.name": worker})
    prefect.set_flow_run_state(run.id, Running(), force=True)
    return run


@pytest.mark.parametrize("she_claims", ["before", "never"])
def test_a_chunk_that_lapses_under_anothers_run_ends_nothing_of_its(prefect, eve, she_claims):
    """A box claims in the name of a run that it knows of and lets the lease go: neither run nor chunk is lost."""
    eve.add_videos("a", "b")
    run = chunk_deployment_run(prefect, "ann")
    held = claim(eve.engine, size=1, flow_run_id=run.id) if she_claims == "before" else None
    lapsed = claim(eve.engine, worker_id="eve", size=1, flow_run_id=run.id)
    expire(eve.engine, lapsed.chunk_id)
    for _ in range(2):
        sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_running()
    if held:
        assert statuses(eve.engine)[held.videos[0].video_id] == "validating"


def test_a_run_whose_own_chunk_lapsed_is_crashed(prefect, eve):
    """Its worker took it and held the chunk: what the sweep takes back was its."""
    eve.add_videos("a")
    run = chunk_deployment_run(prefect, "ann")
    expire(eve.engine, claim(eve.engine, flow_run_id=run.id).chunk_id)
    sweep_stale_claims(orphans=False)
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_a_control_run_without_a_process_is_crashed(prefect, flow_box, monkeypatch):
    """One that a killed worker left Running would hold its deployment's only slot for ever."""
    deployment = prefect.create_deployment(prefect.create_flow(dispatch_chunks), "dispatch-chunks")
    run = prefect.create_flow_run_from_deployment(deployment, state=Running())
    assert not [told for told in tell_prefect.fn([], [], []) if run.name in told]

    monkeypatch.setattr("tasks.control.ZOMBIE_AFTER", timedelta(0))
    assert f"{run.name}: Crashed" in tell_prefect.fn([], [], [])
    assert prefect.read_flow_run(run.id).state.is_crashed()


def test_dispatch_follows_slots_and_queue(prefect, flow_box, tmp_path):
    """Runs are created for the workers online, once; a second tick creates none."""
    flow_box.add_videos(*(f"v{n}" for n in range(20)), tar=False)
    prefect.create_deployment(
        flow_id=prefect.create_flow_from_name("validate-chunk"), name="validate-chunk",
    )  # fmt: skip
    assert dispatch_chunks(chunk_videos=5) == 3  # two workers with one slot each, and a fifth more
    assert dispatch_chunks(chunk_videos=5) == 0

"""The control run: every step, whatever becomes of the others, and the work of runs that are late."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

import tasks.control
from flows.operate import operate_fleet
from tasks.control import is_due, read_runs
from tests.support.ledger_helpers import claim, expire, statuses
from validation.ledger.control_lock import hold_control_lock


def deploy(prefect, name):
    return prefect.create_deployment(flow_id=prefect.create_flow_from_name(name), name=name)


def test_a_failed_step_keeps_no_other_from_its_work(prefect, flow_box, monkeypatch):
    """Without the deployment of chunks nothing is dispatched; the sweep is done, and the run says what failed."""
    monkeypatch.setattr(tasks.control, "CHUNK_DEPLOYMENT", "never-deployed")
    flow_box.add_videos("a")
    expire(flow_box.engine, claim(flow_box.engine).chunk_id)
    state = operate_fleet(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("dispatch: ")
    assert set(statuses(flow_box.engine).values()) == {"pending"}


def test_a_control_run_sweeps_and_dispatches(prefect, flow_box):
    """What a lost worker held is pending again, and runs wait for the workers online."""
    flow_box.add_videos(*(f"v{n}" for n in range(10)), tar=False)
    deployment = deploy(prefect, "validate-chunk")
    expire(flow_box.engine, claim(flow_box.engine, size=2).chunk_id)
    try:
        assert operate_fleet(chunk_videos=5, return_state=True).message == "Every step is done."
        assert set(statuses(flow_box.engine).values()) == {"pending"}
        assert read_runs(states=["SCHEDULED"])
    finally:
        prefect.delete_deployment(deployment)


def test_a_control_run_does_the_work_of_late_ones(prefect, flow_box, monkeypatch):
    """Late runs of the schedule are deleted, not cancelled; what a person asked for and what is not due stays.

    The latter is named after its time.
    """
    deployment = deploy(prefect, "operate-fleet")
    past, future = datetime.now(UTC) - timedelta(minutes=9), datetime.now(UTC) + timedelta(minutes=2)
    late, asked_for, later = (
        prefect.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=at))
        for at in (past, past, future)
    )
    scheduled = {late.id, later.id}

    def read(**which):
        return [run.model_copy(update={"auto_scheduled": run.id in scheduled}) for run in read_runs(**which)]

    monkeypatch.setattr(tasks.control, "read_runs", read)
    operate_fleet(return_state=True)
    with pytest.raises(ObjectNotFound):
        prefect.read_flow_run(late.id)
    for kept in (asked_for, later):
        assert prefect.read_flow_run(kept.id).state.is_scheduled()
    assert prefect.read_flow_run(later.id).name == f"operate the fleet · due {future:%H:%M} UTC"
    prefect.delete_deployment(deployment)


def test_two_control_runs_never_act_at_once(prefect, flow_box, monkeypatch):
    """The second waits; where the first does not end, it does no step and says so."""
    monkeypatch.setattr("flows.operate.LOCK_WAIT_S", 1)
    with hold_control_lock(flow_box.engine, wait_s=1):
        state = operate_fleet(return_state=True)
    assert state.is_failed()
    assert state.message.startswith("no step was done: the ledger could not serve lock_control_run")


def test_longer_periods_are_due_once():
    """Of a day's control runs, every thirtieth is due for an hourly step, also if only a late one had its time."""
    day = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=120 * n, milliseconds=30) for n in range(720)]
    assert sum(is_due([time], every_s=3600, period_s=120) for time in day) == 24
    assert is_due([day[33], day[31], day[30]], every_s=3600, period_s=120)
    assert not is_due([day[33]], every_s=3600, period_s=120)

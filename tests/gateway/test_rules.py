"""The policy decides about an event from its content alone."""

from uuid import uuid4

import pytest

from validation.gateway.policy import EventTarget, find_disallowed_fields, parse_event, parse_proposed_state

RUN, OTHER, TASK_RUN = uuid4(), uuid4(), uuid4()
OWN = {"prefect.resource.id": f"prefect.flow-run.{RUN}", "prefect.resource.role": "flow-run"}
OTHERS = {"prefect.resource.id": f"prefect.flow-run.{OTHER}", "prefect.resource.role": "flow-run"}
PAYLOAD = {"validated_state": {"type": "RUNNING"}, "task_run": {"task_key": "x"}}


def event(name, subject, related=(), **more):
    return {
        "event": f"prefect.{name}",
        "resource": {"prefect.resource.id": f"prefect.{subject}"},
        "related": list(related),
        **more,
    }


@pytest.mark.parametrize(
    ("box", "message", "of"),
    [
        ("b", event("worker.started", "worker.vast-gpu.b"), EventTarget(None, None)),
        ("A.b_1", event("worker.started", "worker.vast-gpu.a-b-1"), EventTarget(None, None)),  # as Prefect spells it
        ("b", event("worker.executed-flow-run", "worker.vast-gpu.b", [OWN]), EventTarget(RUN, None)),
        ("b", event("flow-run.heartbeat", f"flow-run.{RUN}"), EventTarget(RUN, None)),
        ("b", event("task-run.Running", f"task-run.{TASK_RUN}", [OWN], payload=PAYLOAD), EventTarget(RUN, TASK_RUN)),
    ],
)
def test_event_of_a_box_has_a_target(box, message, of):
    """A worker's events are about itself, a flow run's about itself and its task runs."""
    assert parse_event(box, message) == of


TASK = f"task-run.{TASK_RUN}"


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {"event": "prefect.worker.started"},
        {"event": "prefect.worker.started", "resource": "prefect.worker.vast-gpu.b"},
        event("worker.started", "worker.vast-gpu.a.b"),
        event("worker.started", "worker.vast-gpu.a-b"),
        event("worker.started", f"flow-run.{RUN}"),
        event("flow-run.heartbeat", "work-pool.vast-gpu", [OWN]),
        event("flow-run.heartbeat", "flow-run.none"),
        event("flow-run.heartbeat", f"flow-run.{RUN}", [OTHERS]),
        event("flow-run.heartbeat", f"flow-run.{RUN}") | {"related": 5},
        event("flow-run.heartbeat", f"flow-run.{RUN}", [5]),
        event("flow-run.Completed", f"flow-run.{RUN}"),
        event("task-run.Running", TASK, payload=PAYLOAD),
        event("task-run.Running", TASK, [OWN | {"prefect.resource.role": "tag"}], payload=PAYLOAD),
        event("task-run.Running", TASK, [OWN, {"prefect.resource.role": "flow-run"}], payload=PAYLOAD),
        event("task-run.Running", f"flow-run.{RUN}", [OWN], payload=PAYLOAD),
        event("task-run.Running", TASK, [OWN]),
        event("task-run.Running", TASK, [OWN], payload=PAYLOAD | {"task_run": {"id": str(TASK_RUN)}}),
        event("task-run.Running", TASK, [OWN], payload=PAYLOAD | {"task_run": {"flow_run_id": str(OTHER)}}),
        event("task-run.Running", TASK, [OWN], payload=PAYLOAD | {"validated_state": {"id": str(OTHER)}}),
    ],
)
def test_event_that_boxes_do_not_send_is_refused(message):
    """Another box's worker, several flow runs, a task run without flow run, a payload with ids, and input that is no
    event."""
    with pytest.raises(ValueError, match=r"about|with|of a kind|badly formed"):
        parse_event("b", message)


@pytest.mark.attack
@pytest.mark.parametrize("state", ["SCHEDULED", "PAUSED"])
@pytest.mark.parametrize("force", [{}, {"force": False}, {"force": True}])
def test_box_may_put_no_run_back_into_the_queue(state, force):
    """An honest box would take it with the data that the stolen one attached."""
    assert parse_proposed_state({"state": {"type": state, "data": {"foreign": 1}}} | force) is None
    assert parse_proposed_state({"state": {"type": "RUNNING"}}) == "RUNNING"


@pytest.mark.attack
def test_box_may_give_its_run_no_retries():
    """The server would put the failed run back into the queue; without retries a flow run writes its policy."""
    assert find_disallowed_fields({"empirical_policy": {"retries": 3}})
    assert find_disallowed_fields({"empirical_policy": {"max_retries": 3}})
    assert find_disallowed_fields({"empirical_policy": "retries"})
    assert not find_disallowed_fields({"empirical_policy": {"retries": 0, "retry_delay": 0}, "name": "x"})

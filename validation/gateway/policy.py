"""Rules for the requests of a box, by the body of a request alone: what the box may write, read and publish.

``WriteBudget`` limits how many bytes a box may write, so that a stolen token cannot fill the Prefect server's disk.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from validation.domain import Seconds

RUN_FIELDS = frozenset({"name", "infrastructure_pid", "flow_version", "empirical_policy"})
"""Fields of a flow run that its worker and the run itself may write.

`job_variables` and `parameters` are excluded. They can set environment variables: a box could change a queued run such
that it sends the secrets of another box to any address."""

WORKER_LABEL = "prefect.worker.name"

_PUBLISHABLE_EVENTS = re.compile(r"prefect\.(flow-run\.(heartbeat|pull-step\.\w+)|task-run\.\w+|worker\.[\w-]+)")
"""Names of events that a worker and its runs send. State events of flow runs are excluded: the server sends them."""
_SUBSCRIBABLE_EVENTS = re.compile(r"prefect\.(flow-run\.(Cancelling|Suspended)|task-run\.\w+)")
"""Names of events that a worker and its flow runs subscribe to."""
_RUN, _TASK_RUN = "prefect.flow-run.", "prefect.task-run."
_RESERVED_FIELDS = frozenset({"id", "flow_run_id", "state", "state_id", "state_type", "state_name"})
"""Fields of a task run that an event's payload may not have: the server would prefer them to the event's resources."""
_STATE_FIELDS = frozenset({"type", "name", "message", "state_details", "data"})
MAX_REQUESTED_RUNS = 100
"""Maximum flow run ids per search. A box holds two runs; each id that is not cached needs a request to the server."""


@dataclass(frozen=True, slots=True)
class EventTarget:
    """The ids of the flow run and the task run of an event or a log line; None if there is none."""

    run: UUID | None
    task_run: UUID | None


def find_disallowed_fields(change: object) -> set[str]:
    """Return the fields of a change to a flow run that a box may not write; empty if the change is allowed.

    A flow run writes its ``empirical_policy`` when it starts. A policy with retries is not allowed: when the run fails,
    the server would put the run back into the queue with the data that the box wrote.
    """
    if not isinstance(change, dict):
        return {"not an object"}
    disallowed = set(change) - RUN_FIELDS
    match change.get("empirical_policy"):
        case None:
            return disallowed
        case dict(policy) if not policy.get("retries") and not policy.get("max_retries"):
            return disallowed
        case _:
            return disallowed | {"an empirical_policy with retries"}


def may_label(box: str, labels: object) -> bool:
    """Return whether the labels contain only labels of a worker, and the name of this box as the worker."""
    if not isinstance(labels, dict):
        return False
    return labels.get(WORKER_LABEL) == box and all(str(name).startswith("prefect.work") for name in labels)


def parse_proposed_state(body: object) -> str | None:
    """Return the type of the state that a body proposes for a flow run; None if a box may not propose this state.

    A box may not propose PENDING with ``force``. Between the gateway's check and the server's transition another box
    may have taken the run, and the server refuses the second proposal only without ``force``. A box may not put a run
    back into the queue: another box would take the run with the data that the first box attached to the state. The
    control plane does not either: it marks the runs of a lost box Crashed and creates new runs.
    """
    match body:
        case {"state": {"type": "PENDING"}, "force": force} if force is not False:
            return None
        case {"state": {"type": "SCHEDULED" | "PAUSED"}}:
            return None
        case {"state": {"type": str(state_type)}}:
            return state_type
        case _:
            return None


def find_requested_runs(body: object) -> list[UUID] | None:
    """Return the flow run ids of a search; None if the search is not by id, or has too many or invalid ids."""
    match body:
        case {"flow_runs": {"id": {"any_": list(ids)}}} if len(ids) <= MAX_REQUESTED_RUNS:
            try:
                return [UUID(str(run_id)) for run_id in ids]
            except ValueError:
                return None
        case _:
            return None


def narrow_search(body: Mapping[str, Any], runs: Sequence[UUID]) -> dict[str, Any]:
    """Return the same search restricted to these flow runs."""
    only = {"id": {"any_": [str(run) for run in runs]}, "operator": "and_"}  # `or_` would match other runs too
    return {**body, "flow_runs": {**body["flow_runs"], **only}}


def find_log_targets(lines: object) -> list[EventTarget | None]:
    """Return the target of each line of a batch of logs; None for a line without a flow run, which no box writes.

    Raises:
        ValueError: ``lines`` is not a batch of logs, or an id is not a UUID.
    """
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ValueError("no batch of logs")
    return [
        EventTarget(UUID(str(line["flow_run_id"])), UUID(str(task)) if (task := line.get("task_run_id")) else None)
        if line.get("flow_run_id")
        else None
        for line in lines
    ]


def may_subscribe(request: object) -> bool:
    """Return whether a subscription contains only events that a worker and its flow runs subscribe to."""
    match request:
        case {"type": "filter", "filter": {"event": {"name": list(names)}}} if names:
            return all(isinstance(name, str) and _SUBSCRIBABLE_EVENTS.fullmatch(name) for name in names)
        case _:
            return False


def parse_event(box: str, event: Any) -> EventTarget:
    """Return the target of an event of a box's worker or of its flow runs.

    Raises:
        ValueError: boxes do not send this kind of event, its shape is invalid, or it is about another worker or several
            flow runs.
    """
    match event:
        case {"event": str(name), "resource": {"prefect.resource.id": str(subject)}} if _PUBLISHABLE_EVENTS.fullmatch(
            name
        ):
            run, kind = find_run(event), name.split(".")[1]
        case _:
            raise ValueError("an event of a kind that boxes do not send")
    if kind == "task-run":
        _check_task_run(event)
        return EventTarget(run, UUID(subject.removeprefix(_TASK_RUN)))
    if kind == "flow-run" and not subject.startswith(_RUN):
        raise ValueError("an event about no flow run")
    if kind == "worker" and not re.fullmatch(rf"prefect\.worker\.[\w-]+\.{_slug(box)}", subject):
        raise ValueError("an event about another worker")
    return EventTarget(run, None)


def find_run(event: Mapping[str, Any]) -> UUID | None:
    """Return the id of the flow run that is the resource or a related resource of an event; None if there is none.

    Raises:
        ValueError: the event has several flow runs, or is not a valid event.
    """
    ids = [str(resource.get("prefect.resource.id", "")) for resource in (event.get("resource"), *_related(event))
           if isinstance(resource, dict)]  # fmt: skip
    runs = {UUID(resource_id.removeprefix(_RUN)) for resource_id in ids if resource_id.startswith(_RUN)}
    if len(runs) > 1:
        raise ValueError("an event about several flow runs")
    return runs.pop() if runs else None


def _check_task_run(event: Mapping[str, Any]) -> None:
    """Check that a task run's event has a flow run as related resource, and that the payload does not override it.

    The server reads the flow run of a task run from the event's resources, but prefers a flow run id in the payload.

    Raises:
        ValueError: the event has no flow run, no state, or a reserved field in its payload.
    """
    parents = [resource for resource in _related(event) if resource.get("prefect.resource.role") == "flow-run"]
    if not parents or not all(str(parent.get("prefect.resource.id")).startswith(_RUN) for parent in parents):
        raise ValueError("an event about a task run of no flow run")
    match event.get("payload"):
        case {"task_run": dict(row), "validated_state": dict(state)}:
            if row.keys() & _RESERVED_FIELDS or state.keys() - _STATE_FIELDS:
                raise ValueError("an event with ids of its own in the payload")
        case _:
            raise ValueError("an event about a task run without its state")


def _related(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the related resources of an event. Raises ValueError if they are not a list of objects."""
    related = event.get("related") or []
    if not isinstance(related, list) or not all(isinstance(resource, dict) for resource in related):
        raise ValueError("an event with a related resource that is not an object")
    return related


def _slug(box: str) -> str:
    """Return a worker's name in the form that Prefect writes into the events of the worker."""
    return re.sub(r"[^a-z0-9]+", "-", box.lower()).strip("-")


HOURLY_BYTES = 64 << 20
"""Bytes that a box may write per hour. A fast box completes 30 chunks per hour, with 0.2 MB of database each."""
MAX_MESSAGE_BYTES = 1 << 20
"""Maximum bytes of a websocket message. Prefect's client sends one event per message, of some kilobytes."""


class BudgetSpent(Exception):
    """A request would exceed the write budget of its box."""


class WriteBudget:
    """A budget per box of ``HOURLY_BYTES``, which refills at ``HOURLY_BYTES`` per hour."""

    def __init__(self, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, Seconds]] = {}

    def spend(self, box: str, size: int) -> None:
        """Subtract ``size`` bytes from the budget of a box.

        Raises:
            BudgetSpent: the budget has less than ``size`` bytes left; nothing was subtracted.
        """
        now = self._clock()
        left, at = self._left.get(box, (float(HOURLY_BYTES), now))
        left = min(left + (now - at) * HOURLY_BYTES / 3600, float(HOURLY_BYTES))
        if size > left:
            raise BudgetSpent(f"{box} wrote {HOURLY_BYTES >> 20} MB within an hour")
        self._left[box] = left - size, now

"""What a box may write, read and publish, decided from the body of a request alone, and how much it may write.

A stolen token must not fill the disk of the Prefect server.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from validation.domain import Seconds

RUN_FIELDS = frozenset({"name", "infrastructure_pid", "flow_version", "empirical_policy"})
"""Fields of a flow run that a worker and a flow run write. Not `job_variables` and not `parameters`: with the
environment in them, a queued run could send another box's secrets to any address."""

WORKER_LABEL = "prefect.worker.name"

_PUBLISHABLE_EVENTS = re.compile(r"prefect\.(flow-run\.(heartbeat|pull-step\.\w+)|task-run\.\w+|worker\.[\w-]+)")
"""Events that a worker and its flow runs send. Not the events of a flow run's states: the server makes those."""
_SUBSCRIBABLE_EVENTS = re.compile(r"prefect\.(flow-run\.(Cancelling|Suspended)|task-run\.\w+)")
"""Events that a worker and its flow runs wait for."""
_RUN, _TASK_RUN = "prefect.flow-run.", "prefect.task-run."
_RESERVED_FIELDS = frozenset({"id", "flow_run_id", "state", "state_id", "state_type", "state_name"})
"""Fields of a task run that the server reads from an event's resources, unless the payload overrides them."""
_STATE_FIELDS = frozenset({"type", "name", "message", "state_details", "data"})
MAX_REQUESTED_RUNS = 100
"""Flow runs that one search may name. A box holds two; each run that is not cached costs a request to the server."""


@dataclass(frozen=True, slots=True)
class EventTarget:
    """The flow run and task run that an event or a line of a log is about."""

    run: UUID | None
    task_run: UUID | None


def find_disallowed_fields(change: object) -> set[str]:
    """The fields of a change to a flow run that a box may not write.

    A flow run writes its ``empirical_policy`` when it starts. One with retries would make the server put the run back
    into the queue, as the box left it, when it fails.
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
    """Whether the labels only name the worker that took the run, and name this box."""
    if not isinstance(labels, dict):
        return False
    return labels.get(WORKER_LABEL) == box and all(str(name).startswith("prefect.work") for name in labels)


def proposed_state(body: object) -> str | None:
    """The type of the state that is proposed for a flow run, None if the body proposes none that a box may.

    A run is never taken by force: between the gateway's check and the server's transition another box may have taken
    it, and only the server's own rules refuse the second proposal. A box puts no run back into the queue: another box
    would take it with the data that this one attached to the state. Nor does the control plane: it marks what a lost
    box took Crashed, and creates another run.
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
    """The flow runs that a search names, None if it is for others than a few that it names by id."""
    match body:
        case {"flow_runs": {"id": {"any_": list(ids)}}} if len(ids) <= MAX_REQUESTED_RUNS:
            try:
                return [UUID(str(run_id)) for run_id in ids]
            except ValueError:
                return None
        case _:
            return None


def narrow_search(body: Mapping[str, Any], runs: Sequence[UUID]) -> dict[str, Any]:
    """The same search, for these flow runs and no others."""
    only = {"id": {"any_": [str(run) for run in runs]}, "operator": "and_"}  # `or_` would find other runs too
    return {**body, "flow_runs": {**body["flow_runs"], **only}}


def find_log_targets(lines: object) -> list[EventTarget | None]:
    """The target of each line of a batch of logs; None for a line of no flow run, which a box does not write.

    Raises:
        ValueError: this is no batch of logs.
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
    """Whether a subscription is only for events that a worker and its flow runs wait for."""
    match request:
        case {"type": "filter", "filter": {"event": {"name": list(names)}}} if names:
            return all(isinstance(name, str) and _SUBSCRIBABLE_EVENTS.fullmatch(name) for name in names)
        case _:
            return False


def parse_event(box: str, event: Any) -> EventTarget:
    """The target of an event, if a box's worker and its flow runs send events of this kind.

    Raises:
        ValueError: the event is of another kind or shape, or is about another worker or several flow runs.
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
    """The flow run that an event names as its subject or as a related resource.

    Raises:
        ValueError: it names several, or is not an event.
    """
    ids = [str(resource.get("prefect.resource.id", "")) for resource in (event.get("resource"), *_related(event))
           if isinstance(resource, dict)]  # fmt: skip
    runs = {UUID(resource_id.removeprefix(_RUN)) for resource_id in ids if resource_id.startswith(_RUN)}
    if len(runs) > 1:
        raise ValueError("an event about several flow runs")
    return runs.pop() if runs else None


def _check_task_run(event: Mapping[str, Any]) -> None:
    """Check that the resources name the task run's flow run, and that the payload does not override them.

    The server reads the owner of a task run from the event's resources, but lets the payload override it.
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
    related = event.get("related") or []
    if not isinstance(related, list) or not all(isinstance(resource, dict) for resource in related):
        raise ValueError("an event with a related resource that is not an object")
    return related


def _slug(box: str) -> str:
    """A worker's name as Prefect writes it into the worker's events."""
    return re.sub(r"[^a-z0-9]+", "-", box.lower()).strip("-")


HOURLY_BYTES = 64 << 20
"""A chunk takes 0.2 MB of the server's database, and a fast box completes thirty chunks per hour."""
MAX_MESSAGE_BYTES = 1 << 20
"""Prefect's client sends events one by one, of some kilobytes, and logs in batches of at most 1 MB."""


class BudgetSpent(Exception):
    """A box wrote more than its budget."""


class WriteBudget:
    """One budget of bytes per box, which fills up within an hour."""

    def __init__(self, clock: Callable[[], Seconds] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, Seconds]] = {}

    def spend(self, box: str, size: int) -> None:
        """Count ``size`` bytes of a box.

        Raises:
            BudgetSpent: the box has less left; nothing was counted.
        """
        now = self._clock()
        left, at = self._left.get(box, (float(HOURLY_BYTES), now))
        left = min(left + (now - at) * HOURLY_BYTES / 3600, float(HOURLY_BYTES))
        if size > left:
            raise BudgetSpent(f"{box} wrote {HOURLY_BYTES >> 20} MB within an hour")
        self._left[box] = left - size, now

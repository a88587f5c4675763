"""What a box may say about itself and its flow runs, judged by what a request holds. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

RUN_FIELDS = frozenset({"name", "infrastructure_pid", "flow_version", "empirical_policy"})
"""What a worker and a flow run write into a run. Not `job_variables` nor `parameters`: with the environment in them a
run that is queued would take another box's secrets wherever the writer likes."""

WORKER_LABEL = "prefect.worker.name"

_TOLD = re.compile(r"prefect\.(flow-run\.(heartbeat|pull-step\.\w+)|task-run\.\w+|worker\.[\w-]+)")
"""Events that a worker and its flow runs send. Not those of a flow run's states: the server makes them."""
_HEARD = re.compile(r"prefect\.(flow-run\.(Cancelling|Suspended)|task-run\.\w+)")
"""Events that a worker and its flow runs wait for."""
_RUN, _TASK_RUN = "prefect.flow-run.", "prefect.task-run."
_SERVERS_OWN = frozenset({"id", "flow_run_id", "state", "state_id", "state_type", "state_name"})
"""What Prefect's server takes from the other parts of an event about a task run, unless its payload overrules them."""
_STATE_FIELDS = frozenset({"type", "name", "message", "state_details", "data"})
MAX_REQUESTED_RUNS = 100
"""Flow runs that a box may ask about at a time. It holds two; each that is not known yet costs the server a look."""


@dataclass(frozen=True, slots=True)
class EventTarget:
    """Whom an event tells of."""

    run: UUID | None
    task_run: UUID | None


def find_foreign_fields(change: object) -> set[str]:
    """Which fields of a flow run a box may not write."""
    return set(change) - RUN_FIELDS if isinstance(change, dict) else {"not an object"}


def may_label(box: str, labels: object) -> bool:
    """Whether labels say nothing but which worker took the run, and say it truly."""
    if not isinstance(labels, dict):
        return False
    return labels.get(WORKER_LABEL) == box and all(str(name).startswith("prefect.work") for name in labels)


def proposed_state(body: object) -> str | None:
    """The type of state that is proposed for a flow run, None where the body proposes none that a box may.

    A run is never taken by force: between our look and the server's move another box may have taken it, and only the
    server's own rules refuse the second.
    """
    match body:
        case {"state": {"type": "PENDING"}, "force": force} if force is not False:
            return None
        case {"state": {"type": str(kind)}}:
            return kind
        case _:
            return None


def find_requested_runs(body: object) -> list[UUID] | None:
    """Which flow runs a search is for, None where it is for others than a few that it names."""
    match body:
        case {"flow_runs": {"id": {"any_": list(named)}}} if len(named) <= MAX_REQUESTED_RUNS:
            try:
                return [UUID(str(name)) for name in named]
            except ValueError:
                return None
        case _:
            return None


def narrow_search(body: Mapping[str, Any], runs: Sequence[UUID]) -> dict[str, Any]:
    """The same search, for these flow runs and no others."""
    wanted = {"id": {"any_": [str(run) for run in runs]}, "operator": "and_"}  # by `or_` it would find others too
    return {**body, "flow_runs": {**body["flow_runs"], **wanted}}


def may_subscribe(request: object) -> bool:
    """Whether a subscription is for those events alone that a worker and its flow runs wait for."""
    match request:
        case {"type": "filter", "filter": {"event": {"name": list(names)}}} if names:
            return all(isinstance(name, str) and _HEARD.fullmatch(name) for name in names)
        case _:
            return False


def parse_event(box: str, event: Any) -> EventTarget:
    """Whom an event tells of, if it is one that a box's worker and its flow runs send.

    Raises:
        ValueError: it is of another kind or shape, or tells of another worker or of several flow runs.
    """
    match event:
        case {"event": str(name), "resource": {"prefect.resource.id": str(subject)}} if _TOLD.fullmatch(name):
            run, kind = find_run(event), name.split(".")[1]
        case _:
            raise ValueError("of no kind that a box sends")
    if kind == "task-run":
        _require_task_run(event)
        return EventTarget(run, UUID(subject.removeprefix(_TASK_RUN)))
    if kind == "flow-run" and not subject.startswith(_RUN):
        raise ValueError("about no flow run")
    if kind == "worker" and not re.fullmatch(rf"prefect\.worker\.[\w-]+\.{_slug(box)}", subject):
        raise ValueError("about another worker")
    return EventTarget(run, None)


def find_run(event: Mapping[str, Any]) -> UUID | None:
    """The flow run that an event tells of, as its subject or beside it.

    Raises:
        ValueError: there are several, or it is no event.
    """
    named = [str(one.get("prefect.resource.id", "")) for one in (event.get("resource"), *_related(event))
             if isinstance(one, dict)]  # fmt: skip
    runs = {UUID(name.removeprefix(_RUN)) for name in named if name.startswith(_RUN)}
    if len(runs) > 1:
        raise ValueError("about several flow runs")
    return runs.pop() if runs else None


def _require_task_run(event: Mapping[str, Any]) -> None:
    """See that whose task run it is stands in the event's resources, and that its payload does not overrule them."""
    parents = [one for one in _related(event) if one.get("prefect.resource.role") == "flow-run"]
    if not parents or not all(str(one.get("prefect.resource.id")).startswith(_RUN) for one in parents):
        raise ValueError("about a task run of no flow run")
    match event.get("payload"):
        case {"task_run": dict(row), "validated_state": dict(state)}:
            if row.keys() & _SERVERS_OWN or state.keys() - _STATE_FIELDS:
                raise ValueError("with ids of its own in the payload")
        case _:
            raise ValueError("about a task run without its state")


def _related(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    related = event.get("related") or []
    if not isinstance(related, list) or not all(isinstance(one, dict) for one in related):
        raise ValueError("with something that is no resource")
    return related


def _slug(box: str) -> str:
    """The name of a worker as Prefect writes it into what it tells of it."""
    return re.sub(r"[^a-z0-9]+", "-", box.lower()).strip("-")

"""What a box may say about itself and its flow runs, judged by what a request holds. Pure."""

import re
from collections.abc import Mapping
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
_RUN = "prefect.flow-run."


def find_foreign_fields(change: object) -> set[str]:
    """Which fields of a flow run a box may not write."""
    return set(change) - RUN_FIELDS if isinstance(change, dict) else {"not an object"}


def may_label(box: str, labels: object) -> bool:
    """Whether labels say nothing but which worker took the run, and say it truly."""
    if not isinstance(labels, dict):
        return False
    return labels.get(WORKER_LABEL) == box and all(str(name).startswith("prefect.work") for name in labels)


def proposed_state(body: object) -> str | None:
    """The type of state that is proposed for a flow run, None where the body proposes none."""
    match body:
        case {"state": {"type": str(kind)}}:
            return kind
        case _:
            return None


def may_hear(request: object) -> bool:
    """Whether a subscription is for those events alone that a worker and its flow runs wait for."""
    match request:
        case {"type": "filter", "filter": {"event": {"name": list(names)}}} if names:
            return all(isinstance(name, str) and _HEARD.fullmatch(name) for name in names)
        case _:
            return False


def is_own_worker(box: str, event: Mapping[str, Any]) -> bool:
    """Whether an event that tells of a worker tells of the box's own."""
    subject = _resources(event)[0]
    return not subject.startswith("prefect.worker.") or subject.endswith(f".{box}")


def may_tell(event: object) -> bool:
    """Whether an event is of a kind that a worker and its flow runs send."""
    return isinstance(event, dict) and bool(_TOLD.fullmatch(str(event.get("event"))))


def find_runs(event: Mapping[str, Any]) -> set[UUID]:
    """The flow runs that an event tells of.

    Raises:
        ValueError: it names a flow run by something that is no id.
    """
    return {UUID(name.removeprefix(_RUN)) for name in _resources(event) if name.startswith(_RUN)}


def _resources(event: Mapping[str, Any]) -> list[str]:
    described = [event.get("resource"), *(event.get("related") or ())]
    return [str(one.get("prefect.resource.id", "")) if isinstance(one, dict) else "" for one in described]

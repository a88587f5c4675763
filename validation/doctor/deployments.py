"""What runs the control flows: the pool `control`, its worker, the deployments, and the last tick of the fleet."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from validation.doctor.check import CheckWarning
from validation.doctor.prefect_server import ask_prefect
from validation.errors import BadInput
from validation.settings import Settings

CONTROL_POOL = "control"
TICK_DEPLOYMENT = "operate-fleet"
"""The one that is scheduled; the others are run by hand."""
CONTROL_DEPLOYMENTS = (
    TICK_DEPLOYMENT, "dispatch-chunks", "sweep-stale-claims", "check-alerts", "reconcile-fleet", "report-progress",
)  # fmt: skip
BOX_DEPLOYMENT = "validate-chunk"
MAX_TICK_AGE = timedelta(minutes=15)
"""Ticks come every two minutes."""
_WORKING_DIRECTORY = "set_working_directory"
_FINAL = {"any_": ["COMPLETED", "FAILED", "CRASHED"]}


def check_control_worker(_settings: Settings) -> str:
    """The pool `control` exists, is not paused, and a worker polled it lately."""
    pool = ask_prefect("GET", f"/work_pools/{CONTROL_POOL}")
    if pool is None:
        raise BadInput(f"there is no work pool {CONTROL_POOL} on this Prefect server: run `vfleet bootstrap`")
    if pool["is_paused"]:
        raise BadInput(f"work pool {CONTROL_POOL} is paused: `prefect work-pool resume {CONTROL_POOL}`")
    workers = ask_prefect("POST", f"/work_pools/{CONTROL_POOL}/workers/filter", {}) or []
    if online := [worker["name"] for worker in workers if worker["status"] == "ONLINE"]:
        return f"{', '.join(online)} polls the pool {CONTROL_POOL}"
    last = max((worker["last_heartbeat_time"] or "" for worker in workers), default="")
    since = f"since {_parse_time(last):%d %b %H:%M} UTC" if last else "ever"
    raise BadInput(
        f"no worker has polled the pool {CONTROL_POOL} {since}, so nothing is dispatched, swept or rented: start the "
        f"service vfleet-control, or `prefect worker start --pool {CONTROL_POOL}`"
    )


def check_deployments(_settings: Settings) -> str:
    """Every deployment exists, without unfilled variables, and the control flows lie where the deployments say."""
    found = {one["name"]: one for one in ask_prefect("POST", "/deployments/filter", {"limit": 200}) or []}
    if missing := [name for name in (*CONTROL_DEPLOYMENTS, BOX_DEPLOYMENT) if name not in found]:
        raise BadInput(f"there is no deployment {', '.join(missing)}: run `vfleet bootstrap`")
    _refuse_placeholders({name: found[name] for name in (*CONTROL_DEPLOYMENTS, BOX_DEPLOYMENT)})
    folders = {_check_code(found[name]) for name in CONTROL_DEPLOYMENTS}
    if found[TICK_DEPLOYMENT]["paused"]:
        raise CheckWarning(f"deployment {TICK_DEPLOYMENT} is paused, so nothing is dispatched, swept or rented")
    return f"{len(CONTROL_DEPLOYMENTS) + 1} deployments; the control flows run the code in {', '.join(folders)}"


def check_box_deployment(_settings: Settings) -> str:
    """The deployment of the boxes' flow exists, and its code lies on this box where the deployment says."""
    found = ask_prefect("GET", f"/deployments/name/{BOX_DEPLOYMENT}/{BOX_DEPLOYMENT}")
    if found is None:
        raise BadInput(f"there is no deployment {BOX_DEPLOYMENT}: run `vfleet bootstrap` on the control machine")
    _refuse_placeholders({BOX_DEPLOYMENT: found})
    return f"the flow runs the code in {_check_code(found)}"


def check_last_tick(settings: Settings) -> str | None:
    """The last tick of the fleet has not failed. Does not apply where no Vast.ai key is set."""
    if not settings.vast_api_key.get_secret_value():
        return None
    runs = ask_prefect(
        "POST",
        "/flow_runs/filter",
        {
            "sort": "END_TIME_DESC",
            "limit": 1,
            "deployments": {"name": {"any_": [TICK_DEPLOYMENT]}},
            "flow_runs": {"state": {"type": _FINAL}},
        },
    )
    if not runs:
        return "no tick has ended yet"
    (last,) = runs
    ended, message = _parse_time(last["end_time"]), last["state"].get("message") or last["state_name"]
    if last["state_type"] != "COMPLETED":
        raise CheckWarning(f"the last tick failed at {ended:%d %b %H:%M} UTC: {message}")
    if datetime.now(UTC) - ended > MAX_TICK_AGE:
        raise CheckWarning(
            f"the last tick ended at {ended:%d %b %H:%M} UTC, although one is due every two minutes: look at the "
            f"deployment {TICK_DEPLOYMENT} and at the control worker"
        )
    return f"the last tick ended at {ended:%H:%M} UTC: {message}"


def _refuse_placeholders(deployments: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse `{{ ... }}` where Prefect should have put a value: the variable was not set when it was deployed."""
    for name, deployment in deployments.items():
        for step in _list_texts([deployment.get(part) for part in ("pull_steps", "job_variables", "path")]):
            if "{{" in step and "prefect." not in step:
                raise BadInput(f"deployment {name} holds the literal {step}: run `vfleet bootstrap`, which fills it in")


def _list_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _list_texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _list_texts(each)


def _check_code(deployment: Mapping[str, Any]) -> str:
    """Return the folder that a deployment names, where the file of its flow must be.

    Raises:
        BadInput: the file is not there.
    """
    steps = deployment.get("pull_steps") or []
    folders = [inputs.get("directory") for step in steps for name, inputs in step.items() if _WORKING_DIRECTORY in name]
    folder = folders[0] if folders else deployment.get("path") or "."
    file = Path(folder) / str(deployment["entrypoint"]).partition(":")[0]
    if not file.is_file():
        raise BadInput(
            f"deployment {deployment['name']} runs {file}, which this machine does not have: install the project in "
            f"{folder}, or name its folder with `vfleet bootstrap --home FOLDER`"
        )
    return str(folder)


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text)

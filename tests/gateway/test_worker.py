"""A worker whose only Prefect credential is its own token."""

import json
import os

import pytest

from validation.ledger.queries import read_view
from validation.local.process import poll_until
from validation.local.stack import WorkerProcess

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]  # `make gateway`

NAME = "box-7"
KNOWN = ("/workers/connect 404", " 422")
"""Refused requests that a worker can do without: its channel, and a CSRF token, which this server does not use."""


@pytest.fixture
def worker(gateway, box, tmp_path):
    environment = {
        **box.environment,
        **gateway.nginx.box_environment(NAME, gateway.tokens.add(NAME)),
        "VFLEET_SUITE": "vad",
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_HOME": str(tmp_path / "home"),
    }
    assert "only-the-server" not in json.dumps(environment | dict(os.environ))
    worker = WorkerProcess(tmp_path, environment, name=NAME)
    yield worker.launch()
    worker.stop()


def test_worker_finishes_a_chunk_through_the_gateway(gateway, box, worker, waiting_run):
    """Every request that a worker and its flow runs need passes; states, task runs, heartbeats and logs reach the
    server."""
    box.add_videos("a", "b", "c")
    run = waiting_run()

    def state():
        return gateway.as_operator("GET", f"/flow_runs/{run}")["state"]

    poll_until(lambda: state()["name"] in {"Completed", "Crashed", "Failed"} or worker.has_ended(), within_s=120)
    assert state()["message"].startswith("3 videos validated"), (state(), worker.log_tail())
    assert read_view(box.engine, "fleet_overview")[0]["validated"] == 3

    def has_heartbeat():
        sent = {"event": {"name": ["prefect.flow-run.heartbeat"]}}
        events = gateway.as_operator("POST", "/events/filter", filter=sent)["events"]
        return f"prefect.flow-run.{run}" in [event["resource"]["prefect.resource.id"] for event in events]

    def task_states():
        task_runs = gateway.as_operator("POST", "/task_runs/filter", flow_runs={"id": {"any_": [run]}})
        return [task_run["state_name"] for task_run in task_runs]

    assert poll_until(lambda: task_states() == ["Completed"] * 5 and has_heartbeat(), within_s=120), task_states()
    assert gateway.as_operator("POST", "/logs/filter", logs={"flow_run_id": {"any_": [run]}}) != []
    assert NAME in [shown["name"] for shown in gateway.as_operator("POST", "/work_pools/vast-gpu/workers/filter")]
    refused = [line for line in gateway.refusals() if line.startswith(f"{NAME} ") and not line.endswith(KNOWN)]
    assert refused == []

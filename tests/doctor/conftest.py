"""Fixtures: a machine on which every check passes, so that a test can break one thing."""

from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import yaml

from validation.errors import FleetError
from validation.ledger.engine import open_engine
from validation.local.prefect_client import PROJECT, RetryingTransport
from validation.settings import load_settings
from validation.worker.prefect import VastGpuWorker

ENTRYPOINTS = {
    one["name"]: one["entrypoint"] for one in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
}
PULL = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]


@pytest.fixture
def healthy(box, prefect_server, monkeypatch) -> Iterator:
    """Set environment variables and read the settings of a healthy machine: `healthy(DATABASE_URL=...)`."""
    seen = []

    def change(**environment: str):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        seen.append(load_settings())
        return seen[-1]

    for name, value in prefect_server.client_environment().items():
        monkeypatch.setenv(name, value)
    yield change
    for settings in seen:
        with suppress(FleetError):
            open_engine(settings.database_url.get_secret_value(), settings.box_key).dispose()


@pytest.fixture(scope="module")
def deployed(prefect_server, pool) -> None:
    """The pool of the control flows, its worker, and every deployment, as `vfleet bootstrap` makes them."""
    with httpx.Client(transport=RetryingTransport(), base_url=prefect_server.api_url, timeout=30) as http:
        http.post("/work_pools/", json={"name": "control", "type": "process", "base_job_template": {}})
        alive = {"name": "control-1", "heartbeat_interval_seconds": 3600}
        http.post("/work_pools/control/workers/heartbeat", json=alive).raise_for_status()
        for name, entrypoint in ENTRYPOINTS.items():
            flow = http.post("/flows/", json={"name": name}).json()["id"]
            wanted = {"name": name, "flow_id": flow, "entrypoint": entrypoint, "pull_steps": PULL, "paused": False}
            http.post("/deployments/", json=wanted).raise_for_status()


@pytest.fixture(scope="module")
def pool(prefect_server) -> None:
    """The work pool of the boxes, as `vfleet bootstrap` creates it."""
    template = VastGpuWorker.get_default_base_job_template()
    made = {"name": "vast-gpu", "type": "vast-gpu", "base_job_template": template}
    with httpx.Client(transport=RetryingTransport(), base_url=prefect_server.api_url, timeout=30) as http:
        http.post("/work_pools/", json=made)  # it may be there already
        http.patch("/work_pools/vast-gpu", json={"base_job_template": template}).raise_for_status()

"""The doctor proves that control flows have a worker, a pool, their code and every value."""

import httpx
import pytest

from tests.doctor.conftest import ENTRYPOINTS, PULL
from validation.control.dispatch import CHUNK_DEPLOYMENT, CONTROL_DEPLOYMENTS
from validation.doctor import prefect_server
from validation.doctor.check import CheckWarning
from validation.doctor.prefect_server import (
    check_box_deployment,
    check_control_worker,
    check_deployments,
    check_last_tick,
)
from validation.errors import BadInput
from validation.local.prefect_client import PROJECT, RetryingTransport
from validation.settings import Settings

pytestmark = pytest.mark.timeout(300)  # the first of them waits for the Prefect server as healthy


@pytest.fixture
def prefect(healthy, deployed, prefect_server):
    """A client of the server; pools and deployments are as before after the test."""
    healthy()
    with httpx.Client(transport=RetryingTransport(), base_url=prefect_server.api_url, timeout=30) as http:
        yield http
        http.patch("/work_pools/control", json={"is_paused": False}).raise_for_status()
        for name in ENTRYPOINTS:
            change(http, name, pull_steps=PULL, paused=False)


def change(http, name, **values):
    found = http.get(f"/deployments/name/{name}/{name}").json()
    http.patch(f"/deployments/{found['id']}", json=values).raise_for_status()


def test_doctor_knows_every_deployment():
    """Its names are those of prefect.yaml."""
    assert {*CONTROL_DEPLOYMENTS, CHUNK_DEPLOYMENT} == set(ENTRYPOINTS)


def test_sound_deployments_pass(prefect):
    """The finding names the folder and the worker."""
    assert str(PROJECT) in check_deployments(Settings())
    assert str(PROJECT) in check_box_deployment(Settings())
    assert "control-1 polls the pool control" in check_control_worker(Settings())


def test_folder_without_the_code_is_named(prefect):
    """As after `vfleet bootstrap` on a machine without /app: every run would crash."""
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": "/nowhere"}}]
    change(prefect, "sweep-stale-claims", pull_steps=steps)
    with pytest.raises(BadInput, match=r"sweep-stale-claims runs /nowhere/flows/sweep\.py.*bootstrap --home FOLDER"):
        check_deployments(Settings())


def test_unfilled_variable_is_named(prefect):
    """Prefect keeps `{{ $VFLEET_HOME }}` where the variable was not set when it was deployed."""
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $VFLEET_HOME }}"}}]
    change(prefect, "validate-chunk", pull_steps=steps)
    for check in (check_deployments, check_box_deployment):
        with pytest.raises(BadInput, match=r"validate-chunk holds the literal {{ \$VFLEET_HOME }}"):
            check(Settings())


def test_pool_without_a_worker_is_named(prefect, monkeypatch):
    """A worker that has not polled lately is offline for the server."""
    prefect.patch("/work_pools/control", json={"is_paused": True}).raise_for_status()
    with pytest.raises(BadInput, match="work pool control is paused"):
        check_control_worker(Settings())
    pool = {"is_paused": False}
    silent = [{"name": "control-1", "status": "OFFLINE", "last_heartbeat_time": "2026-01-02T03:04:05Z"}]
    for workers, says in (([], "no worker has polled the pool control ever"), (silent, "since 02 Jan 03:04 UTC")):
        monkeypatch.setattr(prefect_server, "ask_prefect", lambda method, *_, w=workers: pool if method == "GET" else w)
        with pytest.raises(BadInput, match=says):
            check_control_worker(Settings())


def test_failed_and_old_ticks_are_told(prefect, monkeypatch):
    """With the sentence of the tick. Without a Vast.ai key nothing is rented, so no tick is expected."""
    assert check_last_tick(Settings()) is None
    settings = Settings(vast_api_key="key")
    assert check_last_tick(settings) == "no tick has ended yet"
    run = {
        "end_time": "2026-01-02T03:04:05Z",
        "state_name": "Failed",
        "state_type": "FAILED",
        "state": {"message": "x"},
    }
    monkeypatch.setattr(prefect_server, "ask_prefect", lambda *_: [run])
    with pytest.raises(CheckWarning, match="the last tick failed at 02 Jan 03:04 UTC: x"):
        check_last_tick(settings)
    run |= {"state_type": "COMPLETED"}
    with pytest.raises(CheckWarning, match="although one is due every two minutes"):
        check_last_tick(settings)

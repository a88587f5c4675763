import asyncio
import inspect
import re
import subprocess
from importlib import import_module
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.deployments.steps.core import run_steps
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.fake_prefect_cloud import cloud_before
from validation.doctor.prefect_server import PrefectRefused
from validation.errors import BadInput
from validation.local.prefect_client import PROJECT, PrefectClient, is_superset

BUILD = "prefect_docker.deployments.steps.build_docker_image"
pytestmark = pytest.mark.timeout(300)  # the first of them waits for the Prefect server as well


def survey(client: PrefectClient) -> dict[str, list]:
    """Everything that bootstrapping makes: all that the server knows of it, but for when it was touched."""
    made = {
        kind: client._call("POST", f"/{kind}/filter")
        for kind in ("work_pools", "deployments", "automations", "block_types", "block_schemas", "concurrency_limits")
    }
    return {kind: sorted((timeless(one) for one in things), key=str) for kind, things in made.items()}


def timeless(thing):
    """Without dates and without what other processes say of it."""
    moving = {"created", "updated", "last_polled", "status", "version_id", "version_info", "global_concurrency_limit"}
    if isinstance(thing, dict):
        return {key: timeless(value) for key, value in thing.items() if key not in moving}
    return [timeless(one) for one in thing] if isinstance(thing, list) else thing


def test_bootstrapping_twice_changes_nothing(prefect_server):
    """Pools, deployments, schedules, limits, automations and block types are what the files say, once; the second run
    leaves the same objects, by id and by content. What an operator did to a pool meanwhile stands, and what he paused
    stays so; an older form of a box's job, which is ours, is renewed."""
    client = PrefectClient(prefect_server.client_environment(), home="/app")
    client.bootstrap()
    untouched = survey(client)
    theirs = {"is_paused": True, "concurrency_limit": 7, "description": "paused until Monday"}
    client._call("PATCH", "/work_pools/control", **theirs)
    client._call("PATCH", "/work_pools/vast-gpu", **theirs)
    renting = client._deployment("reconcile-fleet")["id"]
    client._call("POST", f"/deployments/{renting}/pause_deployment")
    first = survey(client)
    older = {"job_configuration": {"name": "of 0.0.9"}, "variables": {"type": "object"}}
    client._call("PATCH", "/work_pools/vast-gpu", base_job_template=older)
    client.bootstrap()
    assert survey(client) == first
    client._call("POST", f"/deployments/{renting}/resume_deployment")
    theirs = {"is_paused": False, "concurrency_limit": None, "description": None}
    for pool in ("control", "vast-gpu"):
        client._call("PATCH", f"/work_pools/{pool}", **theirs)
    assert [pool["is_paused"] for pool in survey(client)["work_pools"]] == [False] * len(untouched["work_pools"])

    wanted = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    made = {one["name"]: one for one in first["deployments"]}
    for deployment in wanted:
        assert made[deployment["name"]]["work_pool_name"] == deployment["work_pool"]["name"]
        assert made[deployment["name"]]["description"]
    assert {("vast-gpu", "vast-gpu"), ("control", "process")} <= {(p["name"], p["type"]) for p in first["work_pools"]}
    assert [automation["name"] for automation in first["automations"]].count("crash-silent-runs") == 1
    assert {"vast-credentials", "validation-database", "model-suite"} <= {kind["slug"] for kind in first["block_types"]}
    assert made["validate-chunk"]["pull_steps"] == [
        {"prefect.deployments.steps.set_working_directory": {"directory": "/app"}}
    ]
    for name, deployment in made.items():
        for parameter, schema in deployment["parameter_openapi_schema"].get("properties", {}).items():
            assert schema.get("description"), f"{name} shows its parameter {parameter} without a word"


def test_a_pool_for_other_workers_is_not_taken_over(prefect_server):
    """The deployment may have runs."""
    client = PrefectClient(prefect_server.client_environment())
    name = f"test-{uuid4().hex[:8]}"
    client._call("POST", "/work_pools/", name=name, type="process")
    with pytest.raises(BadInput, match="for workers of the type process, not vast-gpu"):
        client._make_pool(name, "vast-gpu")
    client._call("DELETE", f"/work_pools/{name}")


def test_a_workspace_of_prefect_cloud_is_bootstrapped_with_its_key(prefect_server, tmp_path):
    """Every request, the command line's and ours, has the key and verifies the server; a dead key is named, and neither
    it nor a password in the address is told."""
    with cloud_before(prefect_server.api_url, tmp_path) as told:
        private = prefect_server.client_environment() | told
        client = PrefectClient(private, home="/app")
        client.bootstrap()
        assert {"vast-gpu", "control"} <= {pool["name"] for pool in client._call("POST", "/work_pools/filter")}
        dead = private | {"PREFECT_API_KEY": "pnu_dead"}
        dead["PREFECT_API_URL"] = told["PREFECT_API_URL"].replace("//", "//me:secret@")
        with pytest.raises(PrefectRefused, match="PREFECT_API_KEY for Prefect Cloud") as refused:
            PrefectClient(dead).bootstrap()
        assert "secret" not in str(refused.value)
        assert "pnu_dead" not in str(refused.value)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            PrefectClient(private | {"PREFECT_API_SSL_CERT_FILE": ""}).flow_runs()


def test_an_automation_that_somebody_bent_is_put_right(prefect_server):
    """In its place: what refers to it by id goes on doing so."""
    client = PrefectClient(prefect_server.client_environment())
    wanted = {
        "name": f"test-{uuid4().hex[:8]}",
        "trigger": {"type": "event", "posture": "Reactive", "expect": ["b", "a"], "threshold": 1, "within": 0},
        "actions": [{"type": "do-nothing"}],
    }
    client._automate(wanted)
    (made,) = [one for one in client._call("POST", "/automations/filter") if one["name"] == wanted["name"]]
    client._call("PUT", f"/automations/{made['id']}", **wanted | {"description": "bent", "enabled": False})
    client._automate(wanted | {"description": "straight", "enabled": True})
    (mended,) = [one for one in client._call("POST", "/automations/filter") if one["name"] == wanted["name"]]
    assert (mended["id"], mended["description"], mended["enabled"]) == (made["id"], "straight", True)
    client._call("DELETE", f"/automations/{made['id']}")


@pytest.mark.parametrize(
    ("found", "equal"),
    [
        ({"a": 1, "b": ["y", "x"], "id": 7}, True),
        ({"a": 1.0, "b": ["x", "y"]}, True),
        ({"a": 2, "b": ["x", "y"]}, False),
        ({"a": 1, "b": ["x"]}, False),
        ({"b": ["x", "y"]}, False),
    ],
)
def test_defaults_and_orders_of_the_server_are_no_difference(found, equal):
    """What was asked for decides."""
    assert is_superset(found, {"a": 1, "b": ["x", "y"]}) is equal


def test_the_image_is_built_by_steps_that_exist():
    """`prefect deploy --all` builds and pushes the image before it deploys what runs in it; each step takes what it is
    given."""
    (chunk,) = [
        one
        for one in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
        if one["name"] == "validate-chunk"
    ]
    for step in [*chunk["build"], *chunk["push"]]:
        ((name, inputs),) = step.items()
        module, _, function = name.rpartition(".")
        given = {key: value for key, value in inputs.items() if key not in {"id", "requires"}}
        inspect.signature(getattr(import_module(module), function)).bind(**given)
    (built,) = [step[BUILD] for step in chunk["build"] if BUILD in step]
    assert (PROJECT / built["dockerfile"]).is_file()


def test_an_image_is_labelled_with_the_commit_that_it_is_of(prefect_server, monkeypatch):
    """As `make image` and the page have it; two machines that differ can then be told apart."""
    given = {}
    monkeypatch.setattr(BUILD, lambda **inputs: given.update(inputs) or {"image": "i"})
    monkeypatch.setenv("VFLEET_IMAGE", "registry/vfleet")
    monkeypatch.chdir(PROJECT)
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    (steps,) = [deployment["build"] for deployment in described if "build" in deployment]
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}):
        asyncio.run(run_steps(steps))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert given["build_args"] == {"REVISION": head.stdout.strip()}
    assert given["image_name"] == "registry/vfleet"
    (step,) = [step for step in steps if BUILD in step]
    assert re.search(r"^ARG REVISION=", (PROJECT / step[BUILD]["dockerfile"]).read_text(), re.MULTILINE)


def test_every_control_flow_runs_one_at_a_time():
    """Two sweeps at once would tell the same story twice."""
    for deployment in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]:
        if "control" in deployment["tags"]:
            assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
            assert deployment["schedules"]

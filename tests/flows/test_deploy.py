"""`vfleet bootstrap` and prefect.yaml on a real Prefect server."""

import asyncio
import inspect
import re
import subprocess
from importlib import import_module
from uuid import uuid4

import pytest
import yaml
from prefect.deployments.steps.core import run_steps
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.fake_prefect_cloud import serve_prefect_cloud
from validation.doctor.prefect_server import PrefectRefused
from validation.errors import BadInput, Unreachable
from validation.local.prefect_client import PROJECT, PrefectClient, is_superset

BUILD = "prefect_docker.deployments.steps.build_docker_image"
pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server


def read_objects(client: PrefectClient) -> dict[str, list]:
    """Every object that bootstrapping creates, as the server stores it, without volatile fields."""
    made = {
        kind: client._call("POST", f"/{kind}/filter")
        for kind in ("work_pools", "deployments", "automations", "block_types", "block_schemas", "concurrency_limits")
    }
    return {kind: sorted((without_volatile_fields(one) for one in things), key=str) for kind, things in made.items()}


def without_volatile_fields(thing):
    """The object without its dates and without the fields that other processes change."""
    moving = {"created", "updated", "last_polled", "status", "version_id", "version_info", "global_concurrency_limit"}
    if isinstance(thing, dict):
        return {key: without_volatile_fields(value) for key, value in thing.items() if key not in moving}
    return [without_volatile_fields(one) for one in thing] if isinstance(thing, list) else thing


def test_bootstrapping_twice_changes_nothing(prefect_server):
    """The second run leaves the same objects, by id and content.

    Pools, deployments, schedules, limits, automations and block types are as the files say, each once. What an operator
    changed on a pool or paused stays; the job template of an older version is replaced.
    """
    client = PrefectClient(prefect_server.client_environment(), home="/app")
    client.bootstrap()
    untouched = read_objects(client)
    operator_edits = {"is_paused": True, "concurrency_limit": 7, "description": "paused until Monday"}
    client._call("PATCH", "/work_pools/control", **operator_edits)
    client._call("PATCH", "/work_pools/vast-gpu", **operator_edits)
    renting = client._deployment("reconcile-fleet")["id"]
    client._call("POST", f"/deployments/{renting}/pause_deployment")
    first = read_objects(client)
    older = {"job_configuration": {"name": "of 0.0.9"}, "variables": {"type": "object"}}
    client._call("PATCH", "/work_pools/vast-gpu", base_job_template=older)
    client.bootstrap()
    assert read_objects(client) == first
    client._call("POST", f"/deployments/{renting}/resume_deployment")
    operator_edits = {"is_paused": False, "concurrency_limit": None, "description": None}
    for pool in ("control", "vast-gpu"):
        client._call("PATCH", f"/work_pools/{pool}", **operator_edits)
    assert [pool["is_paused"] for pool in read_objects(client)["work_pools"]] == [False] * len(untouched["work_pools"])

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
            assert schema.get("description"), f"{name} has no description of its parameter {parameter}"


def test_pool_of_another_worker_type_is_refused(prefect_server):
    """A pool of this name with another type belongs to another program, whose deployments may use it."""
    client = PrefectClient(prefect_server.client_environment())
    name = f"test-{uuid4().hex[:8]}"
    client._call("POST", "/work_pools/", name=name, type="process")
    with pytest.raises(BadInput, match="for workers of the type process, not vast-gpu"):
        client._make_pool(name, "vast-gpu")
    client._call("DELETE", f"/work_pools/{name}")


def test_prefect_cloud_is_bootstrapped_with_its_key(prefect_server, tmp_path):
    """All requests carry the key and verify the server; an invalid key is named, and no secret is shown."""
    with serve_prefect_cloud(prefect_server.api_url, tmp_path) as cloud:
        private = prefect_server.client_environment() | cloud
        client = PrefectClient(private, home="/app")
        client.bootstrap()
        assert {"vast-gpu", "control"} <= {pool["name"] for pool in client._call("POST", "/work_pools/filter")}
        dead = private | {"PREFECT_API_KEY": "pnu_dead"}
        dead["PREFECT_API_URL"] = cloud["PREFECT_API_URL"].replace("//", "//me:secret@")
        with pytest.raises(PrefectRefused, match="PREFECT_API_KEY for Prefect Cloud") as refused:
            PrefectClient(dead).bootstrap()
        assert "secret" not in str(refused.value)
        assert "pnu_dead" not in str(refused.value)
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            PrefectClient(private | {"PREFECT_API_SSL_CERT_FILE": ""}).flow_runs()


def test_edited_automation_is_restored_under_its_id(prefect_server):
    """An automation that differs from the file is updated in place, so references by id stay valid."""
    client = PrefectClient(prefect_server.client_environment())
    wanted = {
        "name": f"test-{uuid4().hex[:8]}",
        "trigger": {"type": "event", "posture": "Reactive", "expect": ["b", "a"], "threshold": 1, "within": 0},
        "actions": [{"type": "do-nothing"}],
    }
    client._automate(wanted)
    (made,) = [one for one in client._call("POST", "/automations/filter") if one["name"] == wanted["name"]]
    client._call("PUT", f"/automations/{made['id']}", **wanted | {"description": "edited", "enabled": False})
    client._automate(wanted | {"description": "restored", "enabled": True})
    (corrected,) = [one for one in client._call("POST", "/automations/filter") if one["name"] == wanted["name"]]
    assert (corrected["id"], corrected["description"], corrected["enabled"]) == (made["id"], "restored", True)
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
def test_extra_fields_and_list_order_are_no_difference(found, equal):
    """Only the wanted values are compared: the server adds fields and may reorder lists."""
    assert is_superset(found, {"a": 1, "b": ["x", "y"]}) is equal


def test_build_steps_exist_and_accept_their_inputs():
    """The build and push steps of prefect.yaml exist, and their functions accept the given inputs."""
    assert yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"][-1]["name"] == "validate-chunk"
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


def test_image_is_labelled_with_its_commit(prefect_server, monkeypatch):
    """The build gets the current commit as REVISION, which the Dockerfile makes a label."""
    given = {}
    monkeypatch.setattr("validation.local.prefect_client.check_docker", lambda: None)
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


def test_prefect_deploy_without_docker_ends_with_one_sentence(prefect_server, monkeypatch, capsys):
    """The first build step ends the command with exit code 2 before Prefect prints a traceback."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(PROJECT)
    with temporary_settings({PREFECT_API_URL: prefect_server.api_url}), pytest.raises(SystemExit) as ended:
        asyncio.run(run_steps([{"validation.local.prefect_client.require_docker": {}}]))
    assert ended.value.code == 2
    assert "install Docker with its buildx plugin" in capsys.readouterr().err


def test_control_flows_run_one_at_a_time():
    """A second run of a control deployment waits for the first; only the run that does every step has a schedule, and a
    second place, for the run after one whose worker was killed (see hold_control_lock)."""
    for deployment in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]:
        if "control" in deployment["tags"]:
            does_all = deployment["name"] == "operate-fleet"
            assert deployment["concurrency_limit"] == {"limit": 2 if does_all else 1, "collision_strategy": "ENQUEUE"}
            assert ("schedules" in deployment) == does_all

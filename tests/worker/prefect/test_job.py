"""An account that may change a deployment, its pool or its run can make a box do the box's own work only."""

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from validation.errors import BadInput
from validation.settings import Settings, load_settings
from validation.worker.prefect.job import ALLOWED_ENV, DisallowedEnv, UntrustedCode, VastGpuJobConfiguration

STEP = "prefect.deployments.steps.set_working_directory"


def prepare(*, env=None, entrypoint="flows/validate.py:validate_chunk") -> VastGpuJobConfiguration:
    """A run of a deployment, as the worker has it just before it starts its process."""
    deployment = DeploymentResponse(
        id=uuid4(), name="mine", flow_id=uuid4(), entrypoint=entrypoint, pull_steps=[{STEP: {"directory": "/app"}}]
    )
    job = VastGpuJobConfiguration(env=env or {})
    job.prepare_for_flow_run(FlowRun(id=uuid4(), name="run", flow_id=deployment.flow_id), deployment)
    return job


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "PYTHONSTARTUP", "HOME", "HTTPS_PROXY", "SSL_CERT_FILE",
        "DATABASE_URL", "R2_ENDPOINT_URL", "WORKER_ID", "VFLEET_DATABASE_URL", "VFLEET_S3_ENDPOINT_URL",
        "VFLEET_RESULTS_URL", "VFLEET_WORKER_ID", "VFLEET_BOX_KEY", "VFLEET_WEIGHTS", "VFLEET_INFERENCE_SOCKET",
        "VFLEET_DRAIN_FILE", "PREFECT_API_URL", "PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_HOME",
        "PREFECT_LOGGING_SETTINGS_PATH", "PREFECT__FLOW_ENTRYPOINT", "prefect_logging_level", "",
    ],
)  # fmt: skip
def test_no_variable_that_leads_elsewhere_or_loads_something_reaches_a_flow_run(name):
    """Refused by its name, in one sentence, also beside one that is allowed, and also where it would only unset."""
    for value in ("x", None):
        with pytest.raises(DisallowedEnv, match=f"the job variable env sets {name}: .* and nothing else; take") as told:
            prepare(env={name: value, "VFLEET_CHUNK_VIDEOS": "7"}).validate_job()
        assert told.value.names == (name,)


def test_what_a_deployment_may_choose_reaches_its_flow_run():
    """How much at a time: each is a setting that a flow run reads, and none is a secret or an address."""
    job = prepare(env={"VFLEET_CHUNK_VIDEOS": "7", "PREFECT_LOGGING_LEVEL": "DEBUG"})
    job.validate_job()
    assert (job.env["VFLEET_CHUNK_VIDEOS"], job.env["PREFECT_LOGGING_LEVEL"]) == ("7", "DEBUG")
    ours = {name.removeprefix("VFLEET_").lower() for name in ALLOWED_ENV if name.startswith("VFLEET_")}
    assert ours <= set(Settings.model_fields)
    assert not [name for name in ALLOWED_ENV if any(word in name for word in ("URL", "KEY", "SECRET", "TOKEN", "PATH"))]


def test_a_heartbeat_that_would_lose_its_lease_ends_the_run_that_it_was_chosen_for(monkeypatch):
    """Job variables are settings of the run, which reads them as any process does: nothing is claimed."""
    for name, value in prepare(env={"VFLEET_HEARTBEAT_S": "90"}).env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="setting heartbeat_s is '90': value error, must be at most "):
        load_settings()


@pytest.mark.parametrize(
    "entrypoint",
    ["subprocess.py:call", "subprocess.call", "os:system", "/usr/lib/python3.11/subprocess.py:getoutput", None,
     "flows/../subprocess.py:call", "flows/validate.py:validate_chunk\n", "flows.validate.validate_chunk"],
)  # fmt: skip
def test_no_function_that_happens_to_lie_in_the_image_can_be_run_as_a_flow(entrypoint):
    """Prefect would make a flow of it, with parameters of the caller's choice."""
    with pytest.raises(UntrustedCode, match="would run other code by the entrypoint"):
        prepare(entrypoint=entrypoint).validate_job()
    prepare().validate_job()

"""Job variables and entrypoints: an account that may change deployments cannot make a box run other code."""

from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from validation.errors import BadInput
from validation.settings import Settings, load_settings
from validation.worker.prefect.flow_processes import ALLOWED_ENV, DisallowedEnv, UntrustedCode, VastGpuJobConfiguration

STEP = "prefect.deployments.steps.set_working_directory"


def prepare(*, env=None, entrypoint="flows/validate.py:validate_chunk") -> VastGpuJobConfiguration:
    """The job configuration of a run, as the worker has it just before it starts the process."""
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
def test_disallowed_variable_is_refused_by_name(name):
    """The variable is refused beside allowed ones too, and also if its value would only unset it."""
    for value in ("x", None):
        with pytest.raises(
            DisallowedEnv, match=f"the job variable env sets {name}: .* and nothing else; take"
        ) as refused:
            prepare(env={name: value, "VFLEET_CHUNK_VIDEOS": "7"}).validate_job()
        assert refused.value.names == (name,)


def test_allowed_variables_reach_the_flow_run():
    """Each allowed variable is a setting or a log level, and none is a secret or an address."""
    job = prepare(env={"VFLEET_CHUNK_VIDEOS": "7", "PREFECT_LOGGING_LEVEL": "DEBUG"})
    job.validate_job()
    assert (job.env["VFLEET_CHUNK_VIDEOS"], job.env["PREFECT_LOGGING_LEVEL"]) == ("7", "DEBUG")
    ours = {name.removeprefix("VFLEET_").lower() for name in ALLOWED_ENV if name.startswith("VFLEET_")}
    assert ours <= set(Settings.model_fields)
    assert not [name for name in ALLOWED_ENV if any(word in name for word in ("URL", "KEY", "SECRET", "TOKEN", "PATH"))]


def test_job_variables_are_validated_as_settings(monkeypatch):
    """A heartbeat period that is too long for the lease is refused by the run, before anything is claimed."""
    for name, value in prepare(env={"VFLEET_HEARTBEAT_S": "90"}).env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="setting heartbeat_s is '90': value error, must be at most "):
        load_settings()


@pytest.mark.parametrize(
    "entrypoint",
    ["subprocess.py:call", "subprocess.call", "os:system", "/usr/lib/python3.11/subprocess.py:getoutput", None,
     "flows/../subprocess.py:call", "flows/validate.py:validate_chunk\n", "flows.validate.validate_chunk"],
)  # fmt: skip
def test_entrypoint_outside_flows_is_refused(entrypoint):
    """Prefect makes a flow of any function that an entrypoint names, with parameters of the caller's choice."""
    with pytest.raises(UntrustedCode, match="would run other code by the entrypoint"):
        prepare(entrypoint=entrypoint).validate_job()
    prepare().validate_job()

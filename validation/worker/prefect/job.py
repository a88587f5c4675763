"""What a deployment may choose about its flow runs on a `vast-gpu` worker, and what it may not."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.processutils import command_to_string, get_sys_executable
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field, PrivateAttr

from validation.errors import BadInput

CHANGE_FOLDER = "prefect.deployments.steps.set_working_directory"

ALLOWED_ENTRYPOINT = re.compile(r"flows/\w+\.py:\w+")
"""What a deployment may run. Prefect makes a flow of any function that an entrypoint names: of `subprocess.py:call`, in
the folder of Python's own library, with a command as its parameters."""

ALLOWED = frozenset(
    {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_LOGGING_LEVEL",
        "VFLEET_CHUNK_VIDEOS", "VFLEET_FETCHERS", "VFLEET_GROUP_VIDEOS", "VFLEET_HEARTBEAT_S", "VFLEET_LANGUAGES",
        "VFLEET_LEASE_S", "VFLEET_LOOK_AHEAD_BYTES", "VFLEET_LOOK_AHEAD_VIDEOS", "VFLEET_MAX_ATTEMPTS",
    }
)  # fmt: skip
"""What job variables may tell a flow run: how much at a time, of which languages. Not where anything is, nor who the
box is, nor what its programs load at their start: with those, whoever may change a deployment would own the box."""


class UntrustedCode(BadInput):
    """A deployment would run code that is not the project's, as it is in this box's image."""

    def __init__(self, deployment: str, source: str) -> None:
        self.deployment, self.source = deployment, source
        super().__init__(
            f"deployment {deployment} would run other code by {source}: a vast-gpu worker runs the flows of its image "
            f"alone, so give the deployment an entrypoint flows/FILE.py:FLOW and no pull step but {CHANGE_FOLDER} with "
            "its directory"
        )


class DisallowedEnv(BadInput):
    """A deployment, its pool or its run would tell the flow run what only its box may."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(sorted(names))
        super().__init__(
            f"the job variable env sets {', '.join(self.names)}: on a vast-gpu worker it may set "
            f"{', '.join(sorted(ALLOWED))} and nothing else; take it out of the deployment, the run or the work pool"
        )


class VastGpuVariables(ProcessVariables):
    """What the pool's form in the UI offers."""

    command: ClassVar[None] = None  # type: ignore[misc]  # takes the field away: see VastGpuJobConfiguration
    env: dict[str, str | None] = Field(
        default_factory=dict,
        title="Environment",
        description="Settings of the flow run beyond those of its worker, e.g. VFLEET_CHUNK_VIDEOS: how much at a "
        "time, which languages, the log level. A worker refuses a run with any other variable.",
    )
    stream_output: bool = Field(
        default=True,
        title="Stream output",
        description="Whether what the flow run prints appears in the worker's output.",
    )
    working_dir: Path | None = Field(
        default=None,
        title="Working directory",
        description="Where the flow run starts; a temporary folder if left empty. "
        "A set_working_directory pull step overrides it.",
    )


class VastGpuJobConfiguration(ProcessJobConfiguration):
    """How one flow run is started: always by our own launcher, from code that is already here.

    The command is not a variable. A deployment that could name it could run anything on a rented box, and the
    launcher is what ends a flow run with its worker. Nor is the environment, beyond a few numbers.
    """

    _refusal: BadInput | None = PrivateAttr(default=None)

    @classmethod
    def json_template(cls) -> dict[str, Any]:
        return {name: value for name, value in super().json_template().items() if name != "command"}

    def prepare_for_flow_run(  # noqa: PLR0917 - Prefect's signature
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        flow: Flow | None = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Fill in what depends on the flow run. Runs in the worker's process."""
        self.command = command_to_string(
            [get_sys_executable(), "-m", "validation.child_process", str(os.getpid()), "prefect.engine"]
        )
        self._refusal = find_disallowed_env(self.env) or (find_untrusted_code(deployment) if deployment else None)
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)

    def require_own(self) -> None:
        """Refuse a run that would bring code or settings which are not this box's own.

        Raises:
            UntrustedCode: naming the deployment, and what it would run or fetch by.
            DisallowedEnv: naming the variables.
        """
        if self._refusal is not None:
            raise self._refusal


def find_disallowed_env(env: Collection[str]) -> DisallowedEnv | None:
    """Say which variables are not a deployment's to set; None if there are none."""
    foreign = set(env) - ALLOWED
    return DisallowedEnv(foreign) if foreign else None


def find_untrusted_code(deployment: DeploymentResponse) -> UntrustedCode | None:
    """Say how a deployment would bring code of its own; None if it would not."""
    if not ALLOWED_ENTRYPOINT.fullmatch(deployment.entrypoint or ""):
        return UntrustedCode(deployment.name, f"the entrypoint {deployment.entrypoint}")
    if deployment.storage_document_id is not None:
        return UntrustedCode(deployment.name, "a storage block")
    for step in deployment.pull_steps or []:
        for name, inputs in step.items():
            if name != CHANGE_FOLDER:
                return UntrustedCode(deployment.name, f"the pull step {name}")
            # Nothing beside the folder: any step may carry `requires`, which installs packages.
            if more := set(inputs or ()) - {"directory"}:
                return UntrustedCode(deployment.name, f"the pull step {name} with {', '.join(sorted(more))}")
    return None

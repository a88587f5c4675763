"""The job configuration of a `vast-gpu` worker: what a deployment may set for its flow runs, and what is refused."""

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

FLOW_MODULE = "prefect.engine"
"""The module of a flow process: Prefect's entrypoint, as its own process worker starts it."""
CHANGE_FOLDER = "prefect.deployments.steps.set_working_directory"

ALLOWED_ENTRYPOINT = re.compile(r"flows/\w+\.py:\w+")
"""The entrypoints that a deployment may run. Prefect would run any function that an entrypoint names, such as
`subprocess.py:call` in the folder of Python's library, with a command as its parameters."""

ALLOWED_ENV = frozenset(
    {
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_LOGGING_LEVEL",
        "VFLEET_CHUNK_VIDEOS", "VFLEET_FETCHERS", "VFLEET_GROUP_VIDEOS", "VFLEET_HEARTBEAT_S", "VFLEET_LANGUAGES",
        "VFLEET_LEASE_S", "VFLEET_LOOK_AHEAD_BYTES", "VFLEET_LOOK_AHEAD_VIDEOS", "VFLEET_MAX_ATTEMPTS",
    }
)  # fmt: skip
"""The environment that job variables may set: how much work at a time, and of which languages. No addresses, no
identity of the box, nothing that programs load at their start: a person who may change a deployment would control
the box."""


class UntrustedCode(BadInput):
    """A deployment would run code that is not in the image of this box."""

    def __init__(self, deployment: str, source: str) -> None:
        self.deployment, self.source = deployment, source
        super().__init__(
            f"deployment {deployment} would run other code by {source}: a vast-gpu worker runs only the flows of its "
            f"image, so give the deployment an entrypoint flows/FILE.py:FLOW and no pull step but {CHANGE_FOLDER} "
            "with its directory"
        )


class DisallowedEnv(BadInput):
    """The job variable ``env`` of a deployment, pool or run sets variables that only the box may set."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = tuple(sorted(names))
        super().__init__(
            f"the job variable env sets {', '.join(self.names)}: on a vast-gpu worker it may set "
            f"{', '.join(sorted(ALLOWED_ENV))} and nothing else; take it out of the deployment, the run or the pool"
        )


class VastGpuVariables(ProcessVariables):
    """The job variables that the pool's form in the UI offers."""

    command: ClassVar[None] = None  # type: ignore[misc]  # removes the field: see VastGpuJobConfiguration
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
    """Starts a flow run with `validation.child_process`, from the code in the image.

    The command is not a variable: a deployment that could set it could run anything on a rented box, and the launcher
    is what ends a flow run with its worker. The environment is a variable for a few settings only (``ALLOWED_ENV``).
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
        """Set the command and validate the job. Runs in the worker's process."""
        self.command = command_to_string(
            [get_sys_executable(), "-m", "validation.child_process", "--module", FLOW_MODULE, str(os.getpid())]
        )
        self._refusal = find_disallowed_env(self.env) or (find_untrusted_code(deployment) if deployment else None)
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)

    def validate_job(self) -> None:
        """Refuse a run whose code or environment is not allowed.

        Raises:
            UntrustedCode: names the deployment and the source of its code.
            DisallowedEnv: names the variables.
        """
        if self._refusal is not None:
            raise self._refusal


def find_disallowed_env(env: Collection[str]) -> DisallowedEnv | None:
    """The error about variables that a deployment may not set; None if there are none."""
    disallowed = set(env) - ALLOWED_ENV
    return DisallowedEnv(disallowed) if disallowed else None


def find_untrusted_code(deployment: DeploymentResponse) -> UntrustedCode | None:
    """The error about code that a deployment brings itself; None if it brings none."""
    if not ALLOWED_ENTRYPOINT.fullmatch(deployment.entrypoint or ""):
        return UntrustedCode(deployment.name, f"the entrypoint {deployment.entrypoint}")
    if deployment.storage_document_id is not None:
        return UntrustedCode(deployment.name, "a storage block")
    for step in deployment.pull_steps or []:
        for name, inputs in step.items():
            if name != CHANGE_FOLDER:
                return UntrustedCode(deployment.name, f"the pull step {name}")
            # Only the folder: any step may have `requires`, which installs packages.
            if more := set(inputs or ()) - {"directory"}:
                return UntrustedCode(deployment.name, f"the pull step {name} with {', '.join(sorted(more))}")
    return None

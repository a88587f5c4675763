"""What a deployment may choose about its flow runs on a `vast-gpu` worker, and what it may not."""

import os
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


class ForeignCode(BadInput):
    """A deployment would bring code to this box that is not in its image."""

    def __init__(self, deployment: str, source: str) -> None:
        self.deployment, self.source = deployment, source
        super().__init__(
            f"deployment {deployment} would fetch code by {source}: a vast-gpu worker runs only the code of its image, "
            f"so give the deployment no pull step but {CHANGE_FOLDER} with its directory"
        )


class VastGpuVariables(ProcessVariables):
    """What the pool's form in the UI offers."""

    command: ClassVar[None] = None  # type: ignore[misc]  # takes the field away: see VastGpuJobConfiguration
    env: dict[str, str | None] = Field(
        default_factory=dict,
        title="Environment",
        description="Settings of the flow run beyond those of its worker, e.g. VFLEET_CHUNK_VIDEOS. "
        "Never a secret: job variables are stored and shown in plain text.",
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
    launcher is what ends a flow run with its worker.
    """

    _foreign_code: ForeignCode | None = PrivateAttr(default=None)

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
            [get_sys_executable(), "-m", "validation.chunk.orphan", str(os.getpid()), "prefect.engine"]
        )
        self._foreign_code = find_foreign_code(deployment) if deployment else None
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)

    def require_own_code(self) -> None:
        """Refuse a deployment that would fetch code.

        Raises:
            ForeignCode: naming the deployment and what it would fetch by.
        """
        if self._foreign_code is not None:
            raise self._foreign_code


def find_foreign_code(deployment: DeploymentResponse) -> ForeignCode | None:
    """Say how a deployment would fetch code; None if it would not."""
    if deployment.storage_document_id is not None:
        return ForeignCode(deployment.name, "a storage block")
    for step in deployment.pull_steps or []:
        for name, inputs in step.items():
            if name != CHANGE_FOLDER:
                return ForeignCode(deployment.name, f"the pull step {name}")
            # Nothing beside the folder: any step may carry `requires`, which installs packages.
            if more := set(inputs or ()) - {"directory"}:
                return ForeignCode(deployment.name, f"the pull step {name} with {', '.join(sorted(more))}")
    return None

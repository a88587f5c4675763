"""Start, track and stop the flow processes of one worker, and restrict what a deployment may set for them."""

import os
import re
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from anyio import CancelScope
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.utilities.processutils import command_to_string, get_sys_executable
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field, PrivateAttr

from validation.errors import BadInput
from validation.inference.protocol import socket_path

FLOW_MODULE = "prefect.engine"
"""The Python module that a flow process runs. Prefect's own process worker runs the same module."""
CHANGE_FOLDER = "prefect.deployments.steps.set_working_directory"
"""The only pull step that a deployment may have."""

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
"""The environment variables that the job variable ``env`` may set: amount of work, languages, periods and the log
level. Addresses, the identity of the box and variables that programs read at their start are not allowed. With them, a
person who may change a deployment could control the box."""


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
    """The configuration of a flow run: start it with `validation.child_process`, from the code in the image.

    The command is not a job variable. A deployment that could set the command could run any program on a rented box,
    and would replace the launcher that ends a flow run with its worker. ``env`` may set the variables of
    ``ALLOWED_ENV``.
    """

    _refusal: BadInput | None = PrivateAttr(default=None)

    @classmethod
    def json_template(cls) -> dict[str, Any]:
        """Return the template of the job variables, without the command."""
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
        """Set the command, and record why the run is not allowed; ``validate_job`` raises it.

        Runs in the worker's process.
        """
        self.command = command_to_string(
            [get_sys_executable(), "-m", "validation.child_process", "--module", FLOW_MODULE, str(os.getpid())]
        )
        self._refusal = find_disallowed_env(self.env) or (find_untrusted_code(deployment) if deployment else None)
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id)

    def validate_job(self) -> None:
        """Refuse a run whose code or environment is not allowed.

        Raises:
            UntrustedCode: the message contains the deployment and the source of its code.
            DisallowedEnv: the message contains the variables.
        """
        if self._refusal is not None:
            raise self._refusal


def find_disallowed_env(env: Collection[str]) -> DisallowedEnv | None:
    """Return an error with the variables that a deployment may not set; None if all are allowed."""
    disallowed = set(env) - ALLOWED_ENV
    return DisallowedEnv(disallowed) if disallowed else None


def find_untrusted_code(deployment: DeploymentResponse) -> UntrustedCode | None:
    """Return an error about code that the deployment brings itself; None if it runs the code of the image."""
    if not ALLOWED_ENTRYPOINT.fullmatch(deployment.entrypoint or ""):
        return UntrustedCode(deployment.name, f"the entrypoint {deployment.entrypoint}")
    if deployment.storage_document_id is not None:
        return UntrustedCode(deployment.name, "a storage block")
    for step in deployment.pull_steps or []:
        for name, inputs in step.items():
            if name != CHANGE_FOLDER:
                return UntrustedCode(deployment.name, f"the pull step {name}")
            # Only the input `directory` is allowed: `requires`, for example, installs packages.
            if more := set(inputs or ()) - {"directory"}:
                return UntrustedCode(deployment.name, f"the pull step {name} with {', '.join(sorted(more))}")
    return None


class FlowProcesses:
    """The flow processes of one worker session. Each process leads its own process group.

    The drain file asks the processes to drain. The file lies in the folder of this worker session. So a session that
    was replaced under the same worker id asks only its own flow runs.
    """

    def __init__(self, worker_id: str) -> None:
        self.drain_file = socket_path(worker_id).with_name("drain")
        self._pids: dict[UUID, int] = {}
        self._shields: set[CancelScope] = set()

    @property
    def flow_run_ids(self) -> frozenset[UUID]:
        """The ids of the flow runs whose process is running."""
        return frozenset(self._pids)

    @contextmanager
    def watch(self, flow_run_id: UUID, status: TaskStatus[int]) -> Iterator[TaskStatus[int]]:
        """Yield a task status that records the pid of the flow run's process; forget the pid when the block ends.

        The block cannot be cancelled until ``lift_shields``: Prefect kills the process of a run that it cancels, and
        it cancels every run when one of its own tasks fails.
        """
        with CancelScope(shield=True) as shield:
            self._shields.add(shield)
            try:
                yield _PidCapture(self._pids, flow_run_id, status)
            finally:
                self._pids.pop(flow_run_id, None)
                self._shields.discard(shield)

    def lift_shields(self) -> None:
        """Allow Prefect to cancel its tasks that wait for flow processes. Called after the drain."""
        for shield in self._shields:
            shield.shield = False

    def outcome_file(self, flow_run_id: UUID) -> Path:
        """Return the path of the file to which a flow run writes its outcome."""
        return self.drain_file.with_name(f"outcome-{flow_run_id}.json")

    def ask_to_drain(self) -> None:
        """Create the drain file, which asks all present and later flow runs to finish their current videos."""
        self.drain_file.parent.mkdir(mode=0o700, exist_ok=True)
        self.drain_file.touch()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to every flow process and its children."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):  # the process has ended
                os.killpg(pid, number)

    def clear_drain_request(self) -> None:
        """Remove the drain file."""
        self.drain_file.unlink(missing_ok=True)


class _PidCapture(TaskStatus[int]):
    """A task status that records the pid of a flow process, and forwards the pid to Prefect's own status."""

    def __init__(self, pids: dict[UUID, int], flow_run_id: UUID, forward_to: TaskStatus[int]) -> None:
        self._pids, self._flow_run_id, self._forward_to = pids, flow_run_id, forward_to

    def started(self, value: int | None = None) -> None:
        if value is not None:
            self._pids[self._flow_run_id] = value
            self._forward_to.started(value)

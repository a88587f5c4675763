"""The flow processes of one worker: what a deployment may set for them, and how they are tracked and stopped."""

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


class FlowProcesses:
    """Processes that were started by `validation.child_process`; each leads its own process group.

    A file asks them to drain. It lies in the folder of this worker session, so that a session which was replaced under
    the same worker id asks its own flow runs only.
    """

    def __init__(self, worker_id: str) -> None:
        self.drain_file = socket_path(worker_id).with_name("drain")
        self._pids: dict[UUID, int] = {}
        self._shields: set[CancelScope] = set()

    @property
    def flow_run_ids(self) -> frozenset[UUID]:
        """The flow runs whose process runs."""
        return frozenset(self._pids)

    @contextmanager
    def watch(self, flow_run_id: UUID, status: TaskStatus[int]) -> Iterator[TaskStatus[int]]:
        """Record the pid that Prefect reports on the yielded status, until the block ends.

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
        """After the drain, let Prefect cancel its tasks that wait for flow processes."""
        for shield in self._shields:
            shield.shield = False

    def outcome_file(self, flow_run_id: UUID) -> Path:
        """The file to which a flow run writes its outcome."""
        return self.drain_file.with_name(f"outcome-{flow_run_id}.json")

    def ask_to_drain(self) -> None:
        """Ask every flow run, also one that starts later, to finish its current videos."""
        self.drain_file.parent.mkdir(mode=0o700, exist_ok=True)
        self.drain_file.touch()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every flow process and its children."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(pid, number)

    def clear_drain_request(self) -> None:
        """Remove the drain file."""
        self.drain_file.unlink(missing_ok=True)


class _PidCapture(TaskStatus[int]):
    """Records the pid of a flow process, and forwards it."""

    def __init__(self, pids: dict[UUID, int], flow_run_id: UUID, forward_to: TaskStatus[int]) -> None:
        self._pids, self._flow_run_id, self._forward_to = pids, flow_run_id, forward_to

    def started(self, value: int | None = None) -> None:
        if value is not None:
            self._pids[self._flow_run_id] = value
            self._forward_to.started(value)

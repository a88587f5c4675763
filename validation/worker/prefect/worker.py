"""Prefect's process worker with a row in the ledger, and an end that loses nothing.

Built on parts of Prefect that are no public API: `_submit_scheduled_flow_runs`, `_submit_run`,
`_submitting_flow_run_ids`, `_work_pool_name`, `_limit` and `_logger`; that `start` enters the worker before its loops
and tears it down after them, in the task that was cancelled; and that a configured command is run as it is. So Prefect
is pinned to one version, and tests/worker/prefect runs the real command, real signals and real flow processes on it.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Self
from uuid import UUID

import anyio
import httpx
from anyio.abc import TaskStatus
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.logging.loggers import get_worker_logger
from prefect.states import Crashed
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from validation.doctor.runner import check_box
from validation.domain import Seconds
from validation.errors import BadInput, FleetError
from validation.exit_codes import exit_code_of
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.ledger.workers import register_worker
from validation.settings import load_settings
from validation.worker.chunk.drain import DRAIN_FILE_VARIABLE
from validation.worker.chunk.open import validate_settings
from validation.worker.prefect.flow_processes import FlowProcesses
from validation.worker.prefect.inference_supervisor import InferenceSupervisor
from validation.worker.prefect.job import VastGpuJobConfiguration, VastGpuVariables
from validation.worker.prefect.process_identity import remove_stale_dirs
from validation.worker.prefect.profile import add_models, describe_worker
from validation.worker.prefect.registration import WorkerRegistration
from validation.worker.prefect.server import require_work_pool
from validation.worker.prefect.timeouts import call_in_thread

DEFAULT_LIMIT = 2
"""Flow runs at a time: one chunk is scored while the next is downloaded. Prefect's default is no limit at all: a
worker that meets a backlog would take all of it."""
KILL_TIMEOUT_S: Seconds = 3.0
"""From SIGTERM to SIGKILL of a flow process that outlived its grace. A container's stop leaves ten seconds in all."""
SETTLE_TIMEOUT_S: Seconds = 5.0
"""How long Prefect may take to notice and report the end of a killed flow process, before we say why it ended."""
REPORT_S: Seconds = 10.0
"""How long a Prefect server that does not answer may hold up the end, waiting for Prefect's own report included."""
POLL_S: Seconds = 0.1
HEARTBEAT_EVENT_S = "60"
"""How often a run tells Prefect that it lives: five times in what automations.yaml waits. An event is 4.5 KB there."""


class VastGpuWorker(ProcessWorker):
    """Runs flow runs as processes beside a GPU. Its row is in the ledger before its first poll.

    SIGTERM or SIGINT: no new flow run; the running ones are asked to drain and have `drain_grace_s` to end by
    themselves. What still runs then, or at a second signal, is ended and its run says so; the exit code is 0. A worker
    that Prefect gives up drains likewise, and its exit code is not 0. In every case nothing stays claimed and the row
    says `offline`, if the ledger answers; a ledger that does not holds up the end for seconds only.
    """

    type = "vast-gpu"
    job_configuration = VastGpuJobConfiguration
    job_configuration_variables = VastGpuVariables  # type: ignore[assignment]  # mypy takes the parent's `type[...]` for its `type`
    _display_name = "Vast GPU"
    _description = "Runs validation chunks on a rented GPU box: registers in the ledger, drains when it is stopped."

    def __init__(
        self, work_pool_name: str, *, name: str | None = None, limit: int | None = None, **options: Any
    ) -> None:
        super().__init__(work_pool_name, name=name, limit=DEFAULT_LIMIT if limit is None else limit, **options)
        self._is_named = name is not None
        self._ended_runs: set[UUID] = set()
        self._signals = 0
        self._ending = False
        self._hopeless: FleetError | None = None

    async def start(
        self, run_once: bool = False, with_healthcheck: bool = False, printer: Callable[..., None] = print
    ) -> None:
        """Serve until told to stop. A start that is refused is one sentence and exit code 2, or 3 if it may heal.

        So is the end of a worker for which no model host starts any more.
        """
        try:
            await super().start(run_once, with_healthcheck, printer)
        except asyncio.CancelledError:
            if self._hopeless is None:
                raise
            _refuse(self._hopeless)
        except FleetError as refusal:
            _refuse(refusal)

    async def __aenter__(self) -> Self:
        """Enter the ledger, load the models, enter Prefect. Here and not in `setup`, whose errors Prefect groups.

        Raises:
            FleetError: why this worker cannot work here. Nobody was told of it.
        """
        settings = load_settings()
        validate_settings(settings)
        self._take_name(settings.worker_id)
        await require_work_pool(self._work_pool_name, self.type)
        engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
        require_revision(engine)
        doubts = await asyncio.to_thread(check_box, settings)
        self._grace_s = settings.drain_grace_s
        profile = describe_worker(settings, prefect_worker=self.name, limit=self._limit)
        self._row = WorkerRegistration(engine, profile)
        self._take_over_signals()
        self._processes = FlowProcesses(settings.worker_id)
        self._host = InferenceSupervisor(settings.worker_id, on_hopeless=partial(self._give_up, _current_task()))
        self._row.register()
        remove_stale_dirs(settings.worker_id)
        self._row.keep_alive(settings.heartbeat_s)
        try:
            suite = await self._host.start()
            await call_in_thread(partial(register_worker, engine, add_models(profile, suite)))
            await super().__aenter__()
        except BaseException:
            await self._leave()
            raise
        for doubt in doubts:  # said by a worker that serves: a refused start is one sentence
            self._logger.warning("%s", doubt)
        return self

    async def teardown(self, *exc_info: Any) -> None:
        """Drain, leave the ledger, then Prefect. Also the way out when Prefect's own loops or tasks give up.

        The ledger first: who stops us may not wait for a Prefect server that does not answer.
        """
        self._ending = True
        # Where a task of Prefect's has failed, this runs in a scope that is cancelled: each await would be its last.
        with anyio.CancelScope(shield=True):
            try:
                overdue = await self._drain()
            finally:
                await self._leave()
            await self._report_overdue(overdue)
        self._processes.unshield()
        await super().teardown(*exc_info)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow in a process that knows our drain file and our model host, and ends with us.

        Raises:
            UntrustedCode, DisallowedEnv: the run would bring code or settings that are not the box's own; Prefect marks
                it Crashed with that sentence.
        """
        if isinstance(configuration, VastGpuJobConfiguration):
            configuration.require_own()
        configuration.env[DRAIN_FILE_VARIABLE] = str(self._processes.drain_file)
        configuration.env[INFERENCE_SOCKET_VARIABLE] = str(self._host.socket)
        configuration.env.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", HEARTBEAT_EVENT_S)
        try:
            with self._processes.watch(flow_run.id, task_status or anyio.TASK_STATUS_IGNORED) as status:
                return await super().run(flow_run, configuration, status)
        finally:
            self._ended_runs.add(flow_run.id)

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        """Take what there is room for, but nothing once the end has begun, nor a run that already holds a slot here.

        Prefect fails over the latter: a run whose heartbeats it missed is scheduled again though its process lives.
        """
        if self._ending:
            return []
        here = self.limiter.statistics().borrowers
        offered = [offer for offer in flow_run_response if offer.flow_run.id not in here]
        # A poll reserves nothing: workers that all begin with the oldest run take it from each other.
        return await super()._submit_scheduled_flow_runs(random.sample(offered, len(offered)))

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Begin a run. One that a Prefect server in trouble could not tell us about is left to a later poll.

        Prefect lets the error of one run end all: it cancels the task group in which every run of this worker lives.
        """
        try:
            await super()._submit_run(flow_run)
        except (httpx.HTTPError, ValueError) as error:  # an answer that cannot be read is a ValueError
            self._logger.warning("flow run %s was not begun: %r", flow_run.id, error)
            self._submitting_flow_run_ids.discard(flow_run.id)
        finally:
            if flow_run.id not in self._processes.flow_run_ids:  # Prefect keeps the slot of a run that it only cancels
                self._release_limit_slot(flow_run.id)

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        """Free the slot; after a run, fill it at once. The next regular poll may be ten seconds away."""
        super()._release_limit_slot(flow_run_id)
        if flow_run_id in self._ended_runs:
            self._ended_runs.remove(flow_run_id)
            if not self._ending and self._runs_task_group is not None:
                self._runs_task_group.start_soon(self._poll_now)

    async def _poll_now(self) -> None:
        # A failure here is the regular poll's to meet again and to report: this one must not end the worker.
        with suppress(httpx.HTTPError):
            await self.get_and_submit_flow_runs()

    async def _leave(self) -> None:
        """Give back what is held, first of all to the ledger."""
        self._processes.forget_drain()
        await self._row.retire()
        await self._host.stop()

    def _take_name(self, worker_id: str) -> None:
        """Be the same worker to Prefect after a restart, as to the ledger, unless an operator chose another name."""
        if set(worker_id) & set("/%"):
            raise BadInput(f"worker id {worker_id!r} cannot name a Prefect worker: give a WORKER_ID without / and %")
        if not self._is_named:
            self.name = worker_id
            self._logger = get_worker_logger(self)

    def _take_over_signals(self) -> None:
        """Replace Prefect's handlers, which would cancel this worker and so SIGKILL its flow processes."""
        serving = _current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number, serving)

    def _on_signal(self, number: signal.Signals, serving: asyncio.Task[Any]) -> None:
        self._signals += 1
        self._logger.info("%s: %s", number.name, "draining" if self._signals == 1 else "ending at once")
        self._stop_serving(serving)

    def _give_up(self, serving: asyncio.Task[Any], refusal: FleetError) -> None:
        self._logger.warning("no model host starts here any more: draining")
        self._hopeless = refusal
        self._stop_serving(serving)

    def _stop_serving(self, serving: asyncio.Task[Any]) -> None:
        if not self._ending:
            self._ending = True
            serving.cancel()  # ends Prefect's loops, and so the polling; `teardown` does the rest

    async def _drain(self) -> frozenset[UUID]:
        """Return when no flow process runs: which flow runs had to be ended."""
        grace_ends = time.monotonic() + self._grace_s
        self._processes.ask_to_drain()
        await self._row.announce_drain()
        if await self._is_idle(by=grace_ends, or_when=lambda: self._signals > 1):
            return frozenset()
        overdue = self._processes.flow_run_ids | self._submitting_flow_run_ids
        self._logger.warning("ending %d flow runs that have not drained", len(overdue))
        self._processes.signal(signal.SIGTERM)
        if not await self._is_idle(by=time.monotonic() + KILL_TIMEOUT_S):
            self._processes.signal(signal.SIGKILL)
        return overdue

    async def _is_idle(self, *, by: Seconds, or_when: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the last flow run to end; whether it did."""
        while self.limiter.borrowed_tokens:  # a run holds its token from its submission to its end
            if time.monotonic() >= by or or_when():
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _report_overdue(self, flow_run_ids: frozenset[UUID]) -> None:
        """Say in each run's state why it was ended, whatever Prefect makes of the end of its process."""
        why = "a second signal came" if self._signals > 1 else f"its grace of {self._grace_s} s was over"
        message = f"The worker {self.name} was stopped, and {why} before this run had ended."
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_S):
                await self._is_idle(by=time.monotonic() + SETTLE_TIMEOUT_S)
                for flow_run_id in flow_run_ids:
                    await self._mark_crashed(flow_run_id, message)

    async def _mark_crashed(self, flow_run_id: UUID, message: str) -> None:
        """Mark a run Crashed, unless it had ended in another way after all, or was never ours.

        Prefect's own report of a process that was ended knows no reason, and is replaced.
        """
        try:
            state = (await self.client.read_flow_run(flow_run_id)).state
            if state is None or state.is_crashed() or not (state.is_final() or state.is_scheduled()):
                await self.client.set_flow_run_state(flow_run_id, Crashed(message=message), force=True)
        except httpx.HTTPError as error:
            self._logger.warning("flow run %s could not be marked Crashed: %s", flow_run_id, error)


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is called by a coroutine
    return task


def _refuse(refusal: FleetError) -> NoReturn:
    sys.stderr.write(f"{refusal}\n")
    raise SystemExit(int(exit_code_of(refusal))) from None

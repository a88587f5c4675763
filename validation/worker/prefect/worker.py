"""The `vast-gpu` worker: Prefect's process worker, with a row in the ledger and a drain that loses no work.

This module uses private parts of Prefect: `_submit_scheduled_flow_runs`, `_submit_run`, `_submitting_flow_run_ids`,
`_work_pool_name`, `_limit` and `_logger`. It also relies on two facts. First, `start` enters the worker before its
loops, and tears the worker down after them, in the cancelled task. Second, Prefect runs a configured command unchanged.
So Prefect is pinned to one version, and tests/worker/prefect runs Prefect's command with real signals and processes.
"""

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, Self
from uuid import UUID

import anyio
import httpx
from anyio.abc import TaskStatus
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound
from prefect.logging.loggers import get_worker_logger
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from validation.doctor.prefect_server import PrefectRefused, hide_password
from validation.doctor.runner import check_box
from validation.domain import Seconds
from validation.errors import BadInput, FleetError, Unreachable
from validation.exit_codes import exit_code_of
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.ledger.workers import register_worker
from validation.services import open_ledger
from validation.settings import load_settings
from validation.worker.chunk.errors import OUTCOME_FILE_VARIABLE, RefusalStreak, RunOutcome, take_outcome
from validation.worker.chunk.open import DRAIN_FILE_VARIABLE, validate_settings
from validation.worker.prefect.flow_processes import FlowProcesses, VastGpuJobConfiguration, VastGpuVariables
from validation.worker.prefect.inference_supervisor import InferenceSupervisor
from validation.worker.prefect.registration import WorkerRegistration, call_in_thread
from validation.worker.profile import add_models, describe_worker, remove_stale_dirs

DEFAULT_LIMIT = 2
"""Maximum number of concurrent flow runs: one chunk is scored while the next is downloaded. Prefect's default is no
limit; one worker would then take a whole backlog."""
KILL_TIMEOUT_S: Seconds = 3.0
"""Time between SIGTERM and SIGKILL for a flow process that still runs after the grace. `docker stop` allows ten seconds
in all."""
SETTLE_TIMEOUT_S: Seconds = 5.0
"""Time limit for Prefect to report the end of a killed flow process. Then the worker reports the reason itself."""
REPORT_TIMEOUT_S: Seconds = 10.0
"""Time limit of all reports about killed flow runs, SETTLE_TIMEOUT_S included, if the Prefect server does not
respond."""
PREFECT_TIMEOUT_S: Seconds = 20.0
"""Time limit of the check of the work pool. Prefect's client alone would retry a timed-out request for over a
minute."""
POLL_S: Seconds = 0.1
FLOW_ENV: Mapping[str, str] = {
    # Period of heartbeat events (4.5 KB each on the server); automations.yaml waits for five periods.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",
    # The log of the chunk, about a dozen lines, goes to the worker's output and to the flow run's log in Prefect.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "validation",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
"""Default environment variables of a flow process."""


class VastGpuWorker(ProcessWorker):
    """Runs flow runs as processes on a GPU box. Registers in the ledger before its first poll.

    On SIGTERM or SIGINT the worker takes no new flow run, and asks the running ones to drain within `drain_grace_s`.
    Flow processes that run longer, or at a second signal, are terminated, and their runs are marked Crashed with the
    reason; the exit code is 0. If Prefect's loops fail, the worker drains likewise and ends with another exit code. In
    every case the worker's chunks are released and its row shows `offline`, if the ledger answers. If the ledger does
    not answer, each of up to four calls delays the end of the worker by at most ``LEDGER_CALL_TIMEOUT_S``.
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
        self._fatal: FleetError | None = None
        self._refusals = RefusalStreak()

    async def start(
        self, run_once: bool = False, with_healthcheck: bool = False, printer: Callable[..., None] = print
    ) -> None:
        """Serve until stopped. On a refused start or a fatal error, print one sentence and exit with a code.

        The exit codes are those of `validation.exit_codes`.
        """
        try:
            await super().start(run_once, with_healthcheck, printer)
        except asyncio.CancelledError:
            if self._fatal is None:
                raise
            _exit_with(self._fatal)
        except FleetError as refusal:
            _exit_with(refusal)

    async def __aenter__(self) -> Self:
        """Check settings, work pool and box; register in the ledger, start the inference server, connect to Prefect.

        This is not done in `setup`, because Prefect raises an error of `setup` inside an exception group.

        Raises:
            FleetError: this worker cannot run here. If it was registered already, it was retired.
        """
        settings = load_settings()
        validate_settings(settings)
        self._set_worker_name(settings.worker_id)
        await check_work_pool(self._work_pool_name, self.type)
        engine = open_ledger(settings)
        warnings = await asyncio.to_thread(check_box, settings)
        self._grace_s = settings.drain_grace_s
        profile = describe_worker(settings, prefect_worker=self.name, limit=self._limit)
        self._registration = WorkerRegistration(engine, profile)
        self._serving = _current_task()
        self._install_signal_handlers()
        self._processes = FlowProcesses(settings.worker_id)
        self._inference = InferenceSupervisor(
            settings.worker_id, on_give_up=partial(self._stop_on_fatal, _current_task())
        )
        self._registration.register()
        remove_stale_dirs(settings.worker_id)
        self._registration.start_heartbeat(settings.heartbeat_s)
        try:
            suite = await self._inference.start()
            await call_in_thread(partial(register_worker, engine, add_models(profile, suite)))
            await super().__aenter__()
        except BaseException:
            await self._cleanup()
            raise
        for warning in warnings:  # logged after the start, because a refused start prints one sentence
            self._logger.warning("%s", warning)
        return self

    async def teardown(self, *exc_info: Any) -> None:
        """Drain, retire the worker in the ledger, leave Prefect. Also called when Prefect's own loops or tasks fail.

        The ledger comes first, because the stop of a container does not wait for an unresponsive Prefect server.
        """
        self._ending = True
        # If a task of Prefect failed, this runs in a cancelled scope, in which every await would raise.
        with anyio.CancelScope(shield=True):
            try:
                if self._fatal is not None:
                    await self._registration.record_error(str(self._fatal))
                overdue = await self._drain()
            finally:
                await self._cleanup()
            await self._mark_overdue_crashed(overdue)
        self._processes.lift_shields()
        await super().teardown(*exc_info)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow in a process that ends with this worker; set the paths of the worker's files in its environment.

        Raises:
            UntrustedCode, DisallowedEnv: the run's code or environment is not allowed. Prefect marks the run Crashed
                with the error's message.
        """
        if isinstance(configuration, VastGpuJobConfiguration):
            configuration.validate_job()
        configuration.env[DRAIN_FILE_VARIABLE] = str(self._processes.drain_file)
        outcome_file = self._processes.outcome_file(flow_run.id)
        configuration.env[OUTCOME_FILE_VARIABLE] = str(outcome_file)
        configuration.env[INFERENCE_SOCKET_VARIABLE] = str(self._inference.socket)
        for name, value in FLOW_ENV.items():
            configuration.env.setdefault(name, value)
        try:
            with self._processes.watch(flow_run.id, task_status or anyio.TASK_STATUS_IGNORED) as status:
                return await super().run(flow_run, configuration, status)
        finally:
            self._ended_runs.add(flow_run.id)
            if outcome := take_outcome(outcome_file):
                self._stop_if_refused(outcome)

    async def _submit_scheduled_flow_runs(self, flow_run_response: list[WorkerFlowRunResponse]) -> list[FlowRun]:
        """Submit runs for the free slots. Submit none while the worker ends, and no run that has a slot already.

        Prefect reschedules a run whose heartbeats it missed, even if its process lives. A second submission of it would
        fail.
        """
        if self._ending:
            return []
        running = self.limiter.statistics().borrowers
        offered = [offer for offer in flow_run_response if offer.flow_run.id not in running]
        # In random order: a poll reserves nothing, so workers that all begin with the oldest run would compete for it.
        return await super()._submit_scheduled_flow_runs(random.sample(offered, len(offered)))

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Submit a run. If the Prefect server fails during the submission, a later poll submits the run.

        Otherwise an error of one run would make Prefect cancel the task group of all runs of this worker.
        """
        try:
            await super()._submit_run(flow_run)
        except (httpx.HTTPError, ValueError) as error:  # an unreadable response is a ValueError
            self._logger.warning("flow run %s was not started: %r", flow_run.id, error)
            self._submitting_flow_run_ids.discard(flow_run.id)
        finally:
            if flow_run.id not in self._processes.flow_run_ids:  # Prefect keeps the slot of a run that it cancelled
                self._release_limit_slot(flow_run.id)

    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        """Free the slot of a run. At the end of a run, poll at once: the next regular poll may be ten seconds away."""
        super()._release_limit_slot(flow_run_id)
        if flow_run_id in self._ended_runs:
            self._ended_runs.remove(flow_run_id)
            if not self._ending and self._runs_task_group is not None:
                self._runs_task_group.start_soon(self._poll_now)

    async def _poll_now(self) -> None:
        """Fetch and submit flow runs once. An unreachable Prefect server is ignored."""
        # The next regular poll reports the same error; this poll must not end the worker.
        with suppress(httpx.HTTPError):
            await self.get_and_submit_flow_runs()

    async def _cleanup(self) -> None:
        """Remove the drain file, retire the worker in the ledger, then stop the inference server."""
        self._processes.clear_drain_request()
        await self._registration.retire()
        await self._inference.stop()

    def _set_worker_name(self, worker_id: str) -> None:
        """Name the Prefect worker after the worker id, which survives a restart, unless the operator chose a name."""
        if set(worker_id) & set("/%"):
            raise BadInput(f"worker id {worker_id!r} cannot name a Prefect worker: give a WORKER_ID without / and %")
        if not self._is_named:
            self.name = worker_id
            self._logger = get_worker_logger(self)

    def _install_signal_handlers(self) -> None:
        """Replace Prefect's handlers, which would cancel this worker and so SIGKILL its flow processes."""
        serving = _current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number, serving)

    def _on_signal(self, number: signal.Signals, serving: asyncio.Task[Any]) -> None:
        """Drain at the first signal; end the flow runs at once at the second."""
        self._signals += 1
        self._logger.info("%s: %s", number.name, "draining" if self._signals == 1 else "ending at once")
        self._stop_serving(serving)

    def _stop_on_fatal(self, serving: asyncio.Task[Any], error: FleetError) -> None:
        """Drain and end the worker because of an error, which also decides the exit code."""
        self._logger.error("%s: this worker drains and ends", error)
        self._fatal = error
        self._stop_serving(serving)

    def _stop_if_refused(self, outcome: RunOutcome) -> None:
        """Stop the worker if the next flow run would fail with the same error, as ``RefusalStreak`` decides."""
        if (error := self._refusals.add(outcome)) is not None and not self._ending:
            self._stop_on_fatal(self._serving, error)

    def _stop_serving(self, serving: asyncio.Task[Any]) -> None:
        """Cancel the task that serves flow runs, unless the worker ends already."""
        if not self._ending:
            self._ending = True
            serving.cancel()  # ends Prefect's loops, and so the polling; `teardown` drains

    async def _drain(self) -> frozenset[UUID]:
        """Ask all flow runs to drain, and terminate those that do not end in time; return the terminated runs."""
        grace_ends = time.monotonic() + self._grace_s
        self._processes.ask_to_drain()
        await self._registration.announce_drain()
        if await self._wait_until_idle(by=grace_ends, or_when=lambda: self._signals > 1):
            return frozenset()
        overdue = self._processes.flow_run_ids | self._submitting_flow_run_ids
        self._logger.warning("ending %d flow runs that have not drained", len(overdue))
        self._processes.send_signal(signal.SIGTERM)
        if not await self._wait_until_idle(by=time.monotonic() + KILL_TIMEOUT_S):
            self._processes.send_signal(signal.SIGKILL)
        return overdue

    async def _wait_until_idle(self, *, by: Seconds, or_when: Callable[[], bool] = lambda: False) -> bool:
        """Wait until no flow run is left, or until the time ``by`` or ``or_when()``; return whether none is left."""
        while self.limiter.borrowed_tokens:  # a run holds its place in the limiter from its submission to its end
            if time.monotonic() >= by or or_when():
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _mark_overdue_crashed(self, flow_run_ids: frozenset[UUID]) -> None:
        """Mark flow runs Crashed with the reason why the worker ended them."""
        why = "a second signal came" if self._signals > 1 else f"its grace of {self._grace_s} s was over"
        message = f"The worker {self.name} was stopped, and {why} before this run had ended."
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                await self._wait_until_idle(by=time.monotonic() + SETTLE_TIMEOUT_S)
                for flow_run_id in flow_run_ids:
                    await self._mark_crashed(flow_run_id, message)

    async def _mark_crashed(self, flow_run_id: UUID, message: str) -> None:
        """Mark a run Crashed, unless it has another final state or was never started.

        A Crashed state that Prefect set itself has no reason, and is replaced.
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


def _exit_with(error: FleetError) -> NoReturn:
    """Print an error and exit with the code of the error."""
    sys.stderr.write(f"{error}\n")
    raise SystemExit(int(exit_code_of(error))) from None


async def check_work_pool(name: str, worker_type: str) -> None:
    """Check that the Prefect server accepts the login of this process and that a work pool has the right type.

    A pool that does not exist yet is accepted.

    Raises:
        BadInput: PREFECT_API_URL is not set, the server refuses this worker, or the pool has another type.
        Unreachable: the server does not answer.
    """
    if not (url := PREFECT_API_URL.value()):
        raise BadInput("PREFECT_API_URL is not set: give the address of the Prefect server, as http://host:4200/api")
    address = hide_password(url)
    try:
        async with asyncio.timeout(PREFECT_TIMEOUT_S), get_client() as client:
            pool = await client.read_work_pool(name)
    except ObjectNotFound:
        return
    except httpx.HTTPStatusError as error:
        raise _explain_status(address, error.response.status_code) from error
    except (httpx.HTTPError, TimeoutError) as error:
        check, reason = (
            "check PREFECT_API_URL and that the server is up",
            str(error) or f"no answer in {PREFECT_TIMEOUT_S:.0f} s",
        )
        raise Unreachable("the Prefect server", address, check, reason) from error
    if pool.type != worker_type:
        raise BadInput(
            f"work pool {name} is for workers of the type {pool.type}, not {worker_type}: choose another --pool"
        )


def _explain_status(address: str, status: int) -> BadInput | Unreachable:
    """Return the error for a failed response of the Prefect server."""
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Unreachable("the Prefect server", address, "look at its log", f"it answers with status {status}")
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return PrefectRefused(address, status)
    return BadInput(f"the Prefect server at {address} answers with status {status}: check PREFECT_API_URL")

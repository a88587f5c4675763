"""Keep the row of a worker in the ledger current: registration, heartbeats, drain and retirement."""

import asyncio
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from prefect.logging import get_logger
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from validation.domain import Seconds, WorkerProfile
from validation.errors import FleetError
from validation.ledger.rpc import BoxKeyRejected, WorkerIdTaken, WorkerQuarantined
from validation.ledger.workers import drain_worker, heartbeat_worker, register_worker, retire_worker
from validation.worker.profile import is_confirmed_dead

Result = TypeVar("Result")

LEDGER_CALL_TIMEOUT_S: Seconds = 10.0
"""Time limit of one ledger call of a registered worker, as long as that of a connection and longer than that of a lock.
The end of a worker waits for at most four such calls, one after the other: its fatal error, the announcement of its
drain, a heartbeat in progress and its retirement."""
JITTER = 0.25
"""Share of the period by which a heartbeat may come early or late. The jitter keeps a hundred boxes from sending their
heartbeats at the same time."""
log = get_logger("vast-gpu.ledger")


class WorkerRegistration:
    """The row of one worker in the ledger. After ``register``, ledger errors are logged and never raised."""

    def __init__(self, engine: Engine, profile: WorkerProfile) -> None:
        self._engine, self._profile = engine, profile
        self._worker_id, self._instance = profile.worker_id, str(profile.config["instance"])
        self._last_heartbeat_failed = False
        self._retiring = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None

    def register(self) -> None:
        """Insert the worker's row, or replace that of an earlier session, whose open chunks return to the queue.

        Raises:
            WorkerIdTaken: another process has this worker id, and is alive or cannot be confirmed dead.
            BoxKeyRejected, WorkerQuarantined: the ledger refuses this worker.
            Unreachable: the ledger does not answer.
        """
        try:
            taken_back = register_worker(self._engine, self._profile)
        except WorkerIdTaken as taken:
            if not is_confirmed_dead(taken.other):
                raise
            taken_back = register_worker(self._engine, self._profile, replaces=taken.other)
        if taken_back:
            log.warning("took back %d chunks of the last session of %s", taken_back, self._worker_id)

    def start_heartbeat(self, period_s: Seconds) -> None:
        """Send a heartbeat about every ``period_s`` seconds until the retirement.

        The heartbeats are sent from the worker's event loop, so that a hanging worker sends none.
        """
        self._heartbeats = asyncio.create_task(self._send_heartbeats(period_s))

    async def heartbeat(self) -> None:
        """Send one heartbeat. Log when heartbeats begin to fail, and when they succeed again.

        The worker drains and ends if another process has taken its id, if the ledger rejects its box key, or if it is
        quarantined. Such a worker would take flow runs from other workers, but the ledger would give it no work.
        """
        try:
            await self._call(heartbeat_worker)
        except WorkerIdTaken as taken:
            self._end_worker(f"{taken.other} works as {self._worker_id} now")
        except (BoxKeyRejected, WorkerQuarantined) as refusal:
            self._end_worker(str(refusal))
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            if not self._last_heartbeat_failed:
                log.warning("heartbeats do not reach the ledger: %s", _describe(error))
            self._last_heartbeat_failed = True
        else:
            if self._last_heartbeat_failed:
                log.info("heartbeats reach the ledger again")
            self._last_heartbeat_failed = False

    async def announce_drain(self) -> None:
        """Record in the worker's row that the worker drains and claims no new chunk."""
        await self._call_logged(drain_worker)

    async def record_error(self, sentence: str) -> None:
        """Record in the worker's row why the worker ends (``last_error``)."""
        call = partial(heartbeat_worker, self._engine, self._worker_id, last_error=sentence)
        try:
            await call_in_thread(call, timeout_s=LEDGER_CALL_TIMEOUT_S)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            log.warning("the error did not reach the ledger: %s", _describe(error))

    async def retire(self) -> None:
        """Release the worker's open chunks without counting an attempt, and mark the worker offline."""
        self._retiring.set()
        if self._heartbeats is not None:
            await self._heartbeats  # a heartbeat after the retirement would show the worker as online again
        await self._call_logged(retire_worker)

    def _end_worker(self, reason: str) -> None:
        """Log the reason, stop the heartbeats, and send SIGTERM to this process, which drains it."""
        log.error("%s; this worker ends", reason)
        self._retiring.set()
        signal.raise_signal(signal.SIGTERM)

    async def _send_heartbeats(self, period_s: Seconds) -> None:
        while not self._retiring.is_set():
            try:
                async with asyncio.timeout(period_s * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311 - no secret
                    await self._retiring.wait()
            except TimeoutError:
                await self.heartbeat()

    async def _call_logged(self, call: Callable[..., object]) -> None:
        """Call a ledger function as ``_call`` does, but log an error instead of raising it."""
        try:
            await self._call(call)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            log.warning("%s did not reach the ledger: %s", call.__name__, _describe(error))

    async def _call(self, call: Callable[..., object]) -> None:
        """Call a ledger function for this worker session in a thread, for at most ``LEDGER_CALL_TIMEOUT_S``."""
        bound = partial(call, self._engine, self._worker_id, instance=self._instance)
        await call_in_thread(bound, timeout_s=LEDGER_CALL_TIMEOUT_S)


async def call_in_thread(call: Callable[[], Result], *, timeout_s: Seconds | None = None) -> Result:
    """Run a blocking call in a daemon thread and await its result.

    On timeout or cancellation the thread is abandoned. The call does not run in a thread pool: at exit the interpreter
    joins the threads of a pool, and would hang on a server that never answers.

    Raises:
        TimeoutError: the call has not returned within ``timeout_s``.
    """
    result: Future[Result] = Future()
    result.set_running_or_notify_cancel()  # a cancelled wait must not cancel the future of a running thread

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - the await raises the error again
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wait_for(asyncio.wrap_future(result), timeout_s)


def _describe(error: Exception) -> str:
    """Return the text of an error; a time-out has none, so it gets a text."""
    return str(error) or f"no answer within {LEDGER_CALL_TIMEOUT_S:.0f} s"

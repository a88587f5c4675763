"""The row of a worker in the ledger: what it shows, and its registration, heartbeats, drain and retirement."""

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
"""For one call of a worker that serves or ends. Longer than the wait for a lock or for a connection may take. The end
of a worker waits for at most one heartbeat and one retirement."""
JITTER = 0.25
"""Share of the period by which a heartbeat comes early or late, so that a hundred boxes do not send theirs at once."""
log = get_logger("vast-gpu.ledger")


class WorkerRegistration:
    """Keeps the row of one worker current. After ``register``, ledger errors are logged, never raised."""

    def __init__(self, engine: Engine, profile: WorkerProfile) -> None:
        self._engine, self._profile = engine, profile
        self._worker_id, self._instance = profile.worker_id, str(profile.config["instance"])
        self._last_heartbeat_failed = False
        self._retiring = asyncio.Event()
        self._heartbeats: asyncio.Task[None] | None = None

    def register(self) -> None:
        """Insert the row, or take it over from an earlier session, whose open chunks return to the queue.

        Raises:
            WorkerIdTaken: another process has this id, and is alive or cannot be confirmed dead.
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
        """Send heartbeats until the retirement, in the worker's event loop, so that a hanging worker sends none."""
        self._heartbeats = asyncio.create_task(self._send_heartbeats(period_s))

    async def heartbeat(self) -> None:
        """Send one heartbeat. The log says when heartbeats begin to fail, and when they work again.

        A worker that was silent for so long that another one took its id drains and ends, and so does a quarantined
        one: it would take flow runs from other workers and get no work.
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
        """Show in the row that the worker claims no new chunk."""
        await self._call_logged(drain_worker)

    async def record_error(self, sentence: str) -> None:
        """Show in the row why the worker ends (``last_error``)."""
        call = partial(heartbeat_worker, self._engine, self._worker_id, last_error=sentence)
        try:
            await call_in_thread(call, timeout_s=LEDGER_CALL_TIMEOUT_S)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            log.warning("the error did not reach the ledger: %s", _describe(error))

    async def retire(self) -> None:
        """Release open chunks without an attempt, and show the worker as offline."""
        self._retiring.set()
        if self._heartbeats is not None:
            await self._heartbeats  # a heartbeat after the retirement would show the worker as online again
        await self._call_logged(retire_worker)

    def _end_worker(self, reason: str) -> None:
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
        try:
            await self._call(call)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            log.warning("%s did not reach the ledger: %s", call.__name__, _describe(error))

    async def _call(self, call: Callable[..., object]) -> None:
        bound = partial(call, self._engine, self._worker_id, instance=self._instance)
        await call_in_thread(bound, timeout_s=LEDGER_CALL_TIMEOUT_S)


async def call_in_thread(call: Callable[[], Result], *, timeout_s: Seconds | None = None) -> Result:
    """Run a blocking call in a daemon thread and await its result.

    On timeout or cancellation the thread is abandoned. It is not a pool thread, because the interpreter joins those at
    its exit and would hang on a server that never answers.

    Raises:
        TimeoutError: the call has not returned within ``timeout_s``.
    """
    result: Future[Result] = Future()
    result.set_running_or_notify_cancel()  # so that a cancellation of the wait does not cancel it under its thread

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again by the await
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wait_for(asyncio.wrap_future(result), timeout_s)


def _describe(error: Exception) -> str:
    return str(error) or f"no answer within {LEDGER_CALL_TIMEOUT_S:.0f} s"

"""A worker's row in the ledger, from before its first poll to its last breath."""

import asyncio
import random
import signal
from collections.abc import Callable
from functools import partial

from prefect.logging import get_logger
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from validation.domain import Seconds, WorkerProfile
from validation.errors import FleetError
from validation.ledger.rpc import WorkerIdTaken, WorkerQuarantined
from validation.ledger.workers import drain_worker, heartbeat_worker, register_worker, retire_worker
from validation.worker.prefect.process_identity import is_confirmed_dead
from validation.worker.prefect.timeouts import call_in_thread

ANSWER_WITHIN_S: Seconds = 10.0
"""How long the ledger may take over one call of a worker that serves or ends. Longer than a lock's wait or a connection
may take; and whoever stops the worker waits for at most one beat and one goodbye."""
JITTER = 0.25
"""Share of the period by which a beat comes early or late, so that a hundred boxes do not beat in step."""

log = get_logger("vast-gpu.ledger")


class WorkerRegistration:
    """Keeps one worker's row true. After `register` an outage of the ledger is logged, never raised nor waited out."""

    def __init__(self, engine: Engine, profile: WorkerProfile) -> None:
        self._engine, self._profile = engine, profile
        self._worker_id, self._instance = profile.worker_id, str(profile.config["instance"])
        self._silent = False
        self._retiring = asyncio.Event()
        self._beats: asyncio.Task[None] | None = None

    def register(self) -> None:
        """Enter the row, or take it over from an earlier life of this worker, whose open chunks go back to the queue.

        Raises:
            WorkerIdTaken: another instance lives under this id, or cannot be known to be dead.
            Unreachable: the ledger does not answer.
        """
        try:
            taken_back = register_worker(self._engine, self._profile)
        except WorkerIdTaken as taken:
            if not is_confirmed_dead(taken.other):
                raise
            taken_back = register_worker(self._engine, self._profile, replaces=taken.other)
        if taken_back:
            log.warning("took back %d chunks that died with the last life of %s", taken_back, self._worker_id)

    def keep_alive(self, period_s: Seconds) -> None:
        """Beat until retired. In the worker's event loop on purpose: a worker that hangs must not look alive."""
        self._beats = asyncio.create_task(self._beat_until_retired(period_s))

    async def beat(self) -> None:
        """Say that the worker lives. Says in the log when this begins to fail, and when it works again.

        A worker that was silent for so long that another took its place ends as if told to, and so does one that is
        distrusted: it would take flow runs from others and get no work.
        """
        try:
            await self._call(heartbeat_worker)
        except WorkerIdTaken as taken:
            log.error("%s works as %s now; this worker ends", taken.other, self._worker_id)  # noqa: TRY400 - no trace
            self._retiring.set()
            signal.raise_signal(signal.SIGTERM)
        except WorkerQuarantined as refusal:
            log.error("%s; this worker ends", refusal)  # noqa: TRY400 - no trace
            self._retiring.set()
            signal.raise_signal(signal.SIGTERM)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            if not self._silent:
                log.warning("heartbeats do not reach the ledger: %s", _describe(error))
            self._silent = True
        else:
            if self._silent:
                log.info("heartbeats reach the ledger again")
            self._silent = False

    async def announce_drain(self) -> None:
        """Show that the worker takes no new chunk."""
        await self._tell(drain_worker)

    async def retire(self) -> None:
        """Give back what is still open, no attempt lost, and show the worker as offline."""
        self._retiring.set()
        if self._beats is not None:
            await self._beats  # one that arrived after the retirement would bring the worker back to life
        await self._tell(retire_worker)

    async def _beat_until_retired(self, period_s: Seconds) -> None:
        while not self._retiring.is_set():
            try:
                async with asyncio.timeout(period_s * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311 - no secret
                    await self._retiring.wait()
            except TimeoutError:
                await self.beat()

    async def _tell(self, call: Callable[..., object]) -> None:
        try:
            await self._call(call)
        except (FleetError, SQLAlchemyError, TimeoutError) as error:
            log.warning("%s did not reach the ledger: %s", call.__name__, _describe(error))

    async def _call(self, call: Callable[..., object]) -> None:
        said = partial(call, self._engine, self._worker_id, instance=self._instance)
        await call_in_thread(said, within_s=ANSWER_WITHIN_S)


def _describe(error: Exception) -> str:
    return str(error) or f"it has not answered for {ANSWER_WITHIN_S:.0f} s"

"""Supervise the inference server of one worker: start it before the first poll, restart it, stop it with the worker."""

import asyncio
import json
import math
import os
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress

from prefect.logging import get_logger

from validation.domain import Seconds
from validation.errors import BadInput, FleetError, Transient
from validation.inference.client_io import read_status
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE, SuiteInfo, socket_path

FIRST_PAUSE_S: Seconds = 1.0
MAX_BACKOFF_S: Seconds = 60.0
"""The pause before a restart doubles with each restart, from FIRST_PAUSE_S to MAX_BACKOFF_S."""
STABLE_AFTER_S: Seconds = 60.0
"""If a server last became ready longer ago than this, the next pause is FIRST_PAUSE_S again."""
MAX_FAILED_STARTS = 5
"""The worker ends after this many failed starts in a row, because the machine is probably broken."""
CHECK_PERIOD_S: Seconds = 15.0
"""Period of the health check of a running server."""
STATUS_TIMEOUT_S: Seconds = 60.0
"""A server that has not answered a status request for this time counts as hung."""
BATCH_TIMEOUT_S: Seconds = 600.0
"""A server that works longer on one batch counts as hung. A full batch takes seconds on a GPU, a minute on a slow
CPU."""
LOAD_TIMEOUT_S: Seconds = 600.0
"""A server that is neither ready nor refused within this time counts as hung. A large suite loads in 1-2 minutes."""
STOP_TIMEOUT_S: Seconds = 5.0

log = get_logger("vast-gpu.inference")


class StartRefused(BadInput):
    """The inference server refused to start; the message holds the server's reason."""


class ServerExited(Transient):
    """The inference server could not be started, ended, or hung and was killed, before it was ready."""


class InferenceSupervisor:
    """A supervisor that keeps one inference server running.

    Clients wait for the next server, so the death of a server ends no chunk.

    Args:
        worker_id: the worker that the server belongs to.
        on_give_up: called once, with the last error, after MAX_FAILED_STARTS failed starts in a row.
    """

    def __init__(self, worker_id: str, *, on_give_up: Callable[[FleetError], None]) -> None:
        self.socket, self._on_give_up = socket_path(worker_id), on_give_up
        self._process: Process | None = None
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> SuiteInfo:
        """Start the server, wait until the server is ready, and return the server's suite.

        Raises:
            StartRefused: the server cannot run on this machine; the message says why.
            ServerExited: the server ended or hung without a message; see the server's log.
        """
        suite = await self._launch()
        self._supervision = asyncio.create_task(self._supervise())
        return suite

    async def stop(self) -> None:
        """End the server, and delete the folder of its socket."""
        if self._supervision is not None:
            self._supervision.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervision
        await self._end_server()
        shutil.rmtree(self.socket.parent, ignore_errors=True)

    async def _launch(self) -> SuiteInfo:
        """Start a server process and wait until it is ready. ``start`` documents the result and the errors."""
        # The event loop starts the server, because the kernel ends the server when the thread that started it ends.
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "validation.child_process",
                    "--module",
                    "validation.inference",
                    str(os.getpid()),
                ),
                env={**os.environ, INFERENCE_SOCKET_VARIABLE: str(self.socket)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                limit=1 << 20,
            )
        except OSError as error:
            raise ServerExited(f"the inference server cannot be started: {error}") from error
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                message = json.loads(await self._process.stdout.readline() or "{}")
        except (TimeoutError, ValueError) as error:  # the server hangs, or its message is incomplete
            await self._end_server()
            raise ServerExited(f"the inference server sent no message within {LOAD_TIMEOUT_S:.0f} s") from error
        if "ready" in message:
            return SuiteInfo.decode(message["ready"])
        code = await self._process.wait()
        if "refused" in message:
            raise StartRefused(message["refused"])
        raise ServerExited(f"the inference server ended with code {code} before it was ready: see its log above")

    async def _supervise(self) -> None:
        """Restart the server whenever it ends, until this task is cancelled or MAX_FAILED_STARTS is reached."""
        pause_s, ready_at = FIRST_PAUSE_S, time.monotonic()
        refusals: list[FleetError] = []
        while len(refusals) < MAX_FAILED_STARTS:
            code = await self._wait_for_exit()
            if time.monotonic() - ready_at > STABLE_AFTER_S:
                pause_s = FIRST_PAUSE_S
            ready_at = math.inf  # a start that fails is never stable
            log.warning("the inference server ended with code %s; it is restarted in %.0f s", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_BACKOFF_S)
            try:
                await self._launch()
            except FleetError as error:
                log.warning("%s", error)
                refusals.append(error)
            else:
                ready_at, refusals = time.monotonic(), []
                log.info("the inference server is ready again")
        self._on_give_up(refusals[-1])

    async def _wait_for_exit(self) -> int:
        """Wait until the server exits, and kill a server that hangs; return the exit code."""
        assert self._process is not None  # noqa: S101 - it was launched
        while self._process.returncode is None:
            with suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), CHECK_PERIOD_S)
            if (problem := await self._find_health_problem()) is not None and self._process.returncode is None:
                log.warning("the inference server %s; it is killed", problem)
                self._process.kill()
        return self._process.returncode

    async def _find_health_problem(self) -> str | None:
        """Return the problem of a running server as the end of a sentence; None if it is healthy or has just ended."""
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                status = await asyncio.to_thread(read_status, self.socket)
        except TimeoutError:
            return f"has not answered for {STATUS_TIMEOUT_S:.0f} s"
        except FleetError:  # the server has just ended, or refuses a further client
            return None if self.socket.exists() else "has lost its socket, so that no client can connect"
        batch_s = status["current_batch_s"]
        return f"has worked on one batch for {batch_s:.0f} s" if batch_s > BATCH_TIMEOUT_S else None

    async def _end_server(self) -> None:
        """End the server, if it runs; kill it after ``STOP_TIMEOUT_S``."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
                return
            self._process.kill()
            await self._process.wait()

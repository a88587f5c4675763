"""The model host of one worker: started before its first poll, started again when it dies, ended with it."""

import asyncio
import json
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
"""The pause before a host is started again doubles from the first to the last of these while none comes to serve."""
STABLE_AFTER_S: Seconds = 60.0
"""A host that served for so long was well: the next pause is the first again."""
MAX_FAILED_STARTS = 5
"""Starts in a row after none of which a host served: the machine is at fault, and its worker ends."""
CHECK_EVERY_S: Seconds = 15.0
ANSWER_WITHIN_S: Seconds = 60.0
"""A host that does not say for so long how it is hangs."""
BATCH_WITHIN_S: Seconds = 600.0
"""So does one that has had a batch in hand for longer. A full batch takes seconds on a card, a minute on a slow CPU."""
LOAD_WITHIN_S: Seconds = 600.0
"""So does one that has not said for so long whether it can serve. A large suite loads for a minute or two."""
END_WITHIN_S: Seconds = 5.0

log = get_logger("vast-gpu.host")


class StartRefused(BadInput):
    """The model host would not start; the sentence is its own."""


class ServerExited(Transient):
    """The model host ended, or hung and was killed, before it said that it serves."""


class InferenceSupervisor:
    """Keeps one host alive. Its death is its clients' to wait out, and costs no claim.

    Args:
        worker_id: whose host it is.
        on_hopeless: told once, in the last one's words, that none can be started here any more.
    """

    def __init__(self, worker_id: str, *, on_hopeless: Callable[[FleetError], None]) -> None:
        self.socket, self._on_hopeless = socket_path(worker_id), on_hopeless
        self._process: Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> SuiteInfo:
        """Start the host and wait until it serves; returns the suite as it introduces itself.

        Raises:
            StartRefused: it cannot serve here, and says why.
            ServerExited: it ended, or hung, without a word; its log has more.
        """
        suite = await self._launch()
        self._keeping = asyncio.create_task(self._keep())
        return suite

    async def stop(self) -> None:
        """End the host, and what it kept beside its socket."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        await self._end()
        shutil.rmtree(self.socket.parent, ignore_errors=True)

    async def _launch(self) -> SuiteInfo:
        # From the event loop's thread, which lives as long as this worker: the kernel ends the host with that thread.
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "validation.child_process", str(os.getpid()), "validation.inference"),
            env={**os.environ, INFERENCE_SOCKET_VARIABLE: str(self.socket)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            limit=1 << 20,
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async with asyncio.timeout(LOAD_WITHIN_S):
                told = json.loads(await self._process.stdout.readline() or "{}")
        except (TimeoutError, ValueError) as error:  # it hangs, or its word was cut off
            await self._end()
            raise ServerExited(f"the model host told nothing within {LOAD_WITHIN_S:.0f} s that can be read") from error
        if "ready" in told:
            return SuiteInfo.decode(told["ready"])
        code = await self._process.wait()
        if "refused" in told:
            raise StartRefused(told["refused"])
        raise ServerExited(f"the model host ended with code {code} before it served: see what it wrote above")

    async def _keep(self) -> None:
        """Start the host again whenever it ends, until cancelled or hopeless."""
        pause_s, served_s = FIRST_PAUSE_S, time.monotonic()
        refusals: list[FleetError] = []
        while len(refusals) < MAX_FAILED_STARTS:
            code = await self._watch()
            if time.monotonic() - served_s > STABLE_AFTER_S:
                pause_s = FIRST_PAUSE_S
            log.warning("the model host ended with code %s; another is started in %.0f s", code, pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_BACKOFF_S)
            try:
                await self._launch()
            except FleetError as error:
                log.warning("%s", error)
                refusals.append(error)
            except OSError as error:
                log.warning("%s", error)
            else:
                served_s, refusals = time.monotonic(), []
                log.info("the model host serves again")
        self._on_hopeless(refusals[-1])

    async def _watch(self) -> int:
        """Wait for the end of the host, and bring it about where it hangs; returns its exit code."""
        assert self._process is not None  # noqa: S101 - it was launched
        while self._process.returncode is None:
            with suppress(TimeoutError):
                return await asyncio.wait_for(self._process.wait(), CHECK_EVERY_S)
            if (trouble := await self._find_trouble()) is not None and self._process.returncode is None:
                log.warning("the model host %s; it is killed", trouble)
                self._process.kill()
        return self._process.returncode

    async def _find_trouble(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status = await asyncio.to_thread(read_status, self.socket)
        except TimeoutError:
            return f"has not answered for {ANSWER_WITHIN_S:.0f} s"
        except FleetError:  # it has just ended, or has too many clients to hear another: it answers
            return None if self.socket.exists() else "has no socket any more, so that no client finds it"
        batch_s = status["current_batch_s"]
        return f"has had a batch in hand for {batch_s:.0f} s" if batch_s > BATCH_WITHIN_S else None

    async def _end(self) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), END_WITHIN_S)
                return
            self._process.kill()
            await self._process.wait()

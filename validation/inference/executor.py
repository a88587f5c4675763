"""The models at work: one thread prepares the next batch while another, the device's only user, scores the present."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Queue
from typing import NoReturn

from validation.domain import Seconds
from validation.exit_codes import ExitCode
from validation.hardware.pinned_memory import pinned_memory
from validation.inference.batch_queue import Request
from validation.inference.crash_log import CrashLog
from validation.inference.scheduler import RequestScheduler
from validation.inference.warmup import models_failing_all, require_all_respond
from validation.models.base import Batch
from validation.models.batching import pad_batch, take_rows
from validation.models.suite import Suite, find_fault

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ExecutorStats:
    """What the models have done so far."""

    batches: int = 0
    busy_s: Seconds = 0.0
    began_s: Seconds | None = None
    """When the present batch was begun, by the monotonic clock; None while they rest."""

    @property
    def present_s(self) -> Seconds:
        """How long the present batch has taken until now."""
        began_s = self.began_s
        return 0.0 if began_s is None else time.monotonic() - began_s


class BatchExecutor:
    """Scores what lies on the desk, as long as the process lives.

    Both threads let go of a batch before they wait for the next: it holds the arenas of its clients.

    What says that the card is broken ends the host, and so does a model that fails on all of a batch and on a segment
    that it is known to bear as well: the batch is not answered, but tried by the next host, or by one on another card.
    """

    def __init__(self, suite: Suite, desk: RequestScheduler, journal: CrashLog) -> None:
        self.work = ExecutorStats()
        self._suite, self._desk, self._journal = suite, desk, journal
        self._free = threading.Semaphore(1)  # for one batch beyond the one that is scored
        self._prepared: Queue[tuple[list[Request], Batch]] = Queue()

    def start(self) -> None:
        for step in (self._prepare_next, self._score_next):
            threading.Thread(target=_repeat, args=(step,), name=step.__name__.strip("_"), daemon=True).start()

    def _prepare_next(self) -> None:
        self._free.acquire()
        asks = self._desk.take_batch()
        batch = pad_batch([ask.utterance for ask in asks], allocate=pinned_memory)
        # Looked for in the copy: what a client writes into its arena now can no longer reach the models.
        faults = [find_fault(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
        for ask, fault in zip(asks, faults, strict=True):
            if fault:
                self._desk.refuse(ask, fault)
        sound = [row for row, fault in enumerate(faults) if not fault]
        if len(sound) < len(asks):
            asks, batch = [asks[row] for row in sound], take_rows(batch, sound)
        if asks:
            self._prepared.put((asks, batch))
        else:
            self._free.release()

    def _score_next(self) -> None:
        asks, batch = self._prepared.get()
        self._free.release()
        self._score_one(asks, batch)

    def _score_one(self, asks: list[Request], batch: Batch) -> None:
        ids = [ask.id for ask in asks]
        self._journal.begin(ids)
        began_s = self.work.began_s = time.monotonic()
        replies = self._suite.score_batch(batch)
        if silent := models_failing_all(replies):
            require_all_respond(self._suite, silent)
        self.work.began_s = None
        self.work.busy_s += time.monotonic() - began_s
        self.work.batches += 1
        self._journal.end(ids)
        self._desk.answer(asks, replies)


def _repeat(step: Callable[[], None]) -> NoReturn:
    """Do a thread's step for ever. If it fails end the host: half of one would let its clients wait for ever."""
    try:
        while True:
            step()
    except BaseException:
        log.exception("the host cannot go on")
        os._exit(ExitCode.INTERNAL_ERROR)

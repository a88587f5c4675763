"""Runs the models: one thread prepares the next batch while another, the only user of the GPU, scores the current."""

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
from validation.inference.warmup import models_failing_all
from validation.models.base import Batch
from validation.models.batching import pad_batch, take_rows
from validation.models.self_test import run_self_test
from validation.models.suite import Suite, find_fault

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ExecutorStats:
    """Work done since the start of the server."""

    batches: int = 0
    busy_s: Seconds = 0.0
    batch_started_s: Seconds | None = None
    """When the current batch was started, by the monotonic clock; None between batches."""

    @property
    def current_batch_s(self) -> Seconds:
        """How long the current batch has been running; 0 between batches."""
        started_s = self.batch_started_s
        return 0.0 if started_s is None else time.monotonic() - started_s


class BatchExecutor:
    """Scores the batches of the scheduler as long as the process lives.

    Both threads release a batch before they wait for the next, because a batch keeps the arenas of its clients mapped.

    An error that says that the GPU is lost ends the server process. So does a model that fails on every segment of a
    batch and then on the self-test as well. The batch is not answered; the next server process, or another box, tries
    it again.
    """

    def __init__(self, suite: Suite, scheduler: RequestScheduler, crash_log: CrashLog) -> None:
        self.stats = ExecutorStats()
        self._suite, self._scheduler, self._crash_log = suite, scheduler, crash_log
        self._free_slots = threading.Semaphore(1)  # one batch may be prepared beyond the one that is scored
        self._prepared: Queue[tuple[list[Request], Batch]] = Queue()

    def start(self) -> None:
        for step in (self._prepare, self._run_batch):
            threading.Thread(target=_repeat, args=(step,), name=step.__name__.strip("_"), daemon=True).start()

    def _prepare(self) -> None:
        self._free_slots.acquire()
        requests = self._scheduler.next_batch()
        batch = pad_batch([request.utterance for request in requests], allocate=pinned_memory)
        # Checked in the copy: what a client writes to its arena from here on does not reach the models.
        faults = [find_fault(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
        for request, fault in zip(requests, faults, strict=True):
            if fault:
                self._scheduler.fail(request, fault)
        valid = [row for row, fault in enumerate(faults) if not fault]
        if len(valid) < len(requests):
            requests, batch = [requests[row] for row in valid], take_rows(batch, valid)
        if requests:
            self._prepared.put((requests, batch))
        else:
            self._free_slots.release()

    def _run_batch(self) -> None:
        requests, batch = self._prepared.get()
        self._free_slots.release()
        self._score(requests, batch)

    def _score(self, requests: list[Request], batch: Batch) -> None:
        ids = [request.id for request in requests]
        self._crash_log.mark_started(ids)
        started_s = self.stats.batch_started_s = time.monotonic()
        answers = self._suite.score_batch(batch)
        if failing := models_failing_all(answers):
            run_self_test(self._suite, failing)
        self.stats.batch_started_s = None
        self.stats.busy_s += time.monotonic() - started_s
        self.stats.batches += 1
        self._crash_log.mark_finished(ids)
        self._scheduler.complete(requests, answers)


def _repeat(step: Callable[[], None]) -> NoReturn:
    """Repeat a thread's step for ever. On an error end the process, because clients of half a server wait for ever."""
    try:
        while True:
            step()
    except BaseException:
        log.exception("fatal error: the inference server exits with code %d", ExitCode.INTERNAL_ERROR)
        os._exit(ExitCode.INTERNAL_ERROR)

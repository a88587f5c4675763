"""Warm up the models and run them: one thread prepares the next batch while another scores the current batch.

The scoring thread is the only user of the GPU.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Queue
from typing import NoReturn

from validation.domain import Answer, Seconds, Unscored
from validation.exit_codes import ExitCode
from validation.hardware.gpu import allocate_pinned_memory
from validation.inference.batch_queue import Request
from validation.inference.scheduler import CrashLog, RequestScheduler
from validation.models.base import Batch
from validation.models.batching import max_batch_size, pad_batch, padded_cost_s, take_rows
from validation.models.self_test import SelfTestFailed, find_faults, make_probe_batch, run_self_test
from validation.models.suite import Suite, find_audio_fault

log = logging.getLogger(__name__)

WARMUP_S: Seconds = 10.0
"""Length of an ordinary segment in the warm-up."""
LONG_WARMUP_S: Seconds = 30.0
"""Length of a long segment in the warm-up. Long segments are tested too, because the memory of attention and alignment
grows faster than the length."""


def warm_up(suite: Suite) -> None:
    """Score two batches of faint noise that fill the batch budget: one of ordinary segments, one of long segments.

    The second batch is skipped if the budget is smaller than one long segment. If the GPU memory does not suffice for a
    batch, the budget shrinks here, before any work.

    Raises:
        SelfTestFailed: a model failed, or the GPU memory does not suffice for a single segment.
        GpuLost: this process cannot use the GPU any more.
    """
    _warm_up_length(suite, WARMUP_S)
    if padded_cost_s(LONG_WARMUP_S) <= suite.budget.seconds:
        _warm_up_length(suite, LONG_WARMUP_S)
    suite.reset_stats()


def _warm_up_length(suite: Suite, duration_s: Seconds) -> None:
    """Score a batch of noise that fills the budget with segments of this length."""
    started_s = time.monotonic()
    count = max_batch_size(duration_s, suite.budget.seconds, min_padded_s=suite.min_padded_s)
    batch = make_probe_batch(suite.columns, count, duration_s, allocate=allocate_pinned_memory)
    for model, fault in find_faults(suite.score_batch(batch)):
        raise SelfTestFailed(model, fault, "before any work")
    log.info("a batch of %d segments of %.0f s took %.1f s", count, duration_s, time.monotonic() - started_s)


def find_failing_models(answers: Sequence[Mapping[str, Answer]]) -> list[str]:
    """Return the models that failed on every segment of a batch that requested them."""
    requested = {model for own in answers for model in own}
    return [model for model in requested if all(_has_failed(own[model]) for own in answers if model in own)]


def _has_failed(answer: Answer) -> bool:
    """Return whether the model failed on the segment. Other faults are no failures of the model."""
    return isinstance(answer, Unscored) and answer.fault.kind == "model_failed"


@dataclass(slots=True)
class ExecutorStats:
    """Times that the executor spent in models and in waiting, in seconds since the start of the server.

    The executor spends the rest of the uptime on writing the crash log and returning answers.
    """

    batches: int = 0
    busy_s: Seconds = 0.0
    """Time that the models spent on the finished batches."""
    batch_started_s: Seconds | None = None
    """Start time of the current batch, by the monotonic clock; None between batches."""
    batch_taken_s: Seconds | None = None
    """Time at which the batch in preparation was taken from the queue, by the monotonic clock; None while the queue has
    no batch."""
    _wait_started_s: Seconds | None = None
    _waits: tuple[Seconds, Seconds] = (0.0, 0.0)
    """The result of ``waits`` at the end of the last wait."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def current_batch_s(self) -> Seconds:
        """Time since the start of the current batch; 0 between batches."""
        started_s = self.batch_started_s
        return 0.0 if started_s is None else time.monotonic() - started_s

    def waits(self) -> tuple[Seconds, Seconds]:
        """Return how long the models have waited for a batch, the current wait included.

        Returns:
            Seconds in which the queue had no batch, because too few requests were pending; seconds in which a batch
            had been taken from the queue but was still being padded and copied.
        """
        with self._lock:
            return self._count_waits()

    def begin_wait(self) -> None:
        """Record that the thread of the models begins to wait for a batch."""
        with self._lock:
            self._wait_started_s = time.monotonic()

    def end_wait(self) -> None:
        """Record that this thread has a batch."""
        with self._lock:
            self._waits, self._wait_started_s = self._count_waits(), None

    def _count_waits(self) -> tuple[Seconds, Seconds]:
        """Return the result of ``waits``; the caller holds the lock."""
        if self._wait_started_s is None:
            return self._waits
        now_s, taken_s = time.monotonic(), self.batch_taken_s
        taken_s = now_s if taken_s is None else max(taken_s, self._wait_started_s)
        return self._waits[0] + taken_s - self._wait_started_s, self._waits[1] + now_s - taken_s


class BatchExecutor:
    """An executor of the scheduler's batches. One thread prepares the next batch while another runs the models.

    Each thread drops its batch before it waits for the next, because a batch keeps the arenas of its clients mapped.

    The server process ends on any error of a thread, such as the loss of the GPU. It also ends when a model fails on
    every segment of a batch and then fails the self-test. Then the batch in work is not answered, and the clients
    send its segments to the next server process.
    """

    def __init__(self, suite: Suite, scheduler: RequestScheduler, crash_log: CrashLog) -> None:
        self.stats = ExecutorStats()
        self._suite, self._scheduler, self._crash_log = suite, scheduler, crash_log
        self._free_slots = threading.Semaphore(1)  # one batch is prepared while another is scored
        self._prepared: Queue[tuple[list[Request], Batch]] = Queue()

    def start(self) -> None:
        """Start both threads."""
        for step in (self._prepare, self._run_batch):
            threading.Thread(target=_repeat, args=(step,), name=step.__name__.strip("_"), daemon=True).start()

    def _prepare(self) -> None:
        """Take a batch from the scheduler, pad it and check its audio. Segments with a fault are answered here."""
        self._free_slots.acquire()
        self.stats.batch_taken_s = None
        requests = self._scheduler.next_batch()
        self.stats.batch_taken_s = time.monotonic()
        batch = pad_batch([request.utterance for request in requests], allocate=allocate_pinned_memory)
        # The padded copy is checked, because a client may still write to its arena after the check.
        faults = [find_audio_fault(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
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
        """Wait for a prepared batch and score it."""
        self.stats.begin_wait()
        requests, batch = self._prepared.get()
        self.stats.end_wait()  # before the slot is released, because ``_prepare`` then resets `batch_taken_s`
        self._free_slots.release()
        self._score(requests, batch)

    def _score(self, requests: list[Request], batch: Batch) -> None:
        """Score a batch and return its answers; test the models that failed on all of its segments."""
        ids = [request.id for request in requests]
        self._crash_log.mark_started(ids)
        started_s = self.stats.batch_started_s = time.monotonic()
        answers = self._suite.score_batch(batch)
        if failing := find_failing_models(answers):
            run_self_test(self._suite, failing)
        self.stats.batch_started_s = None
        self.stats.busy_s += time.monotonic() - started_s
        self.stats.batches += 1
        self._crash_log.mark_finished(ids)
        self._scheduler.complete(requests, answers)


def _repeat(step: Callable[[], None]) -> NoReturn:
    """Repeat a thread's step for ever; end the process on an error.

    If only one of the two threads ended, clients would wait for ever.
    """
    try:
        while True:
            step()
    except BaseException:
        log.exception("fatal error: the inference server exits with code %d", ExitCode.INTERNAL_ERROR)
        os._exit(ExitCode.INTERNAL_ERROR)

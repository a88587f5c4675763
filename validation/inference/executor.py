"""Warm up the models, then run batches: threads prepare a batch, launch its models, and return its answers.

On a GPU three threads do these three steps, and up to two batches are in flight. While the GPU computes one batch, the
host queues the other one behind it or makes the answers of the other one. So the GPU does not wait for texts and
alignments. On a CPU two threads suffice: one prepares, one launches and answers, because the models use all cores.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Queue
from typing import Literal, NoReturn, TypeAlias

from validation.domain import Answer, Seconds, Unscored
from validation.exit_codes import ExitCode
from validation.hardware.gpu import allocate_pinned_memory
from validation.inference.batch_queue import Request
from validation.inference.scheduler import CrashLog, RequestScheduler
from validation.models.base import Batch
from validation.models.batching import max_batch_size, pad_batch, padded_cost_s, take_rows
from validation.models.self_test import SelfTestFailed, find_faults, make_probe_batch, run_self_test
from validation.models.suite import LaunchedBatch, Suite, find_audio_fault

log = logging.getLogger(__name__)

State: TypeAlias = Literal["busy", "answers", "preparation", "requests"]

WARMUP_S: Seconds = 10.0
"""Length of an ordinary segment in the warm-up."""
LONG_WARMUP_S: Seconds = 30.0
"""Length of a long segment in the warm-up. Long segments are tested too, because the memory of attention and alignment
grows faster than the length."""


def warm_up(suite: Suite) -> None:
    """Score two batches of faint noise that fill the batch budget: one of ordinary segments, one of long segments.

    The second batch is skipped if the budget is smaller than one long segment. If the GPU memory does not suffice for a
    batch, the budget shrinks here, before any work. On a GPU a third batch of one segment follows: layers may be
    compiled at their first use, and a batch of one segment needs a program of its own (see ``models.compiled``). At the
    end the suite's statistics are reset.

    Raises:
        SelfTestFailed: a model did not score a segment, for example because GPU memory does not suffice for it alone.
        GpuLost: this process cannot use the GPU any more.
    """
    _warm_up_length(suite, WARMUP_S)
    if padded_cost_s(LONG_WARMUP_S) <= suite.budget.seconds:
        _warm_up_length(suite, LONG_WARMUP_S)
    if suite.device == "cuda":
        _warm_up_length(suite, WARMUP_S, most=1)
    suite.reset_stats()


def _warm_up_length(suite: Suite, duration_s: Seconds, most: int | None = None) -> None:
    """Score a batch of noise in segments of this length: as many as the budget allows, but no more than ``most``.

    Raises:
        SelfTestFailed: a model did not score a segment.
    """
    started_s = time.monotonic()
    fitting = max_batch_size(duration_s, suite.budget.seconds, min_padded_s=suite.min_padded_s)
    count = fitting if most is None else min(most, fitting)
    batch = make_probe_batch(suite.columns, count, duration_s, allocate=allocate_pinned_memory)
    for model, fault in find_faults(suite.score_batch(batch)):
        raise SelfTestFailed(model, fault, "before any work")
    log.info("a batch of %d segments of %.0f s took %.1f s", count, duration_s, time.monotonic() - started_s)


def find_failing_models(answers: Sequence[Mapping[str, Answer]]) -> list[str]:
    """Return the models that failed on every segment that requested them, from the answers to a batch."""
    requested = {model for own in answers for model in own}
    return [model for model in requested if all(_has_failed(own[model]) for own in answers if model in own)]


def _has_failed(answer: Answer) -> bool:
    """Return whether the answer has the fault ``model_failed``. Other faults are no failures of the model."""
    return isinstance(answer, Unscored) and answer.fault.kind == "model_failed"


MAX_IN_FLIGHT = 2
"""The most batches on a GPU that are launched and not answered yet. With one batch the GPU would wait while its answers
are made; a third batch would only hold memory."""


class ExecutorStats:
    """How the executor has spent its time since the start of the server.

    At each moment the executor is in the first of these states that applies:

    - ``busy``: the models are launched on a batch, or the device computes it. On a CPU this includes the answers.
    - ``answers``: all launched work is done, and the answers of a batch are being made. The work of models that compute
      only then, such as DNSMOS, counts here.
    - ``preparation``: a batch was taken from the queue and is being padded and copied.
    - ``requests``: the executor waits for the queue, which has no batch.

    Several threads may call the methods concurrently.
    """

    def __init__(self) -> None:
        self.batches = 0
        """The number of answered batches."""
        self._taken = self._on_device = 0
        """The numbers of batches that are taken but not launched, and launched but not computed."""
        self._started_s: list[Seconds] = []
        """Launch times of the batches that are not answered yet, oldest first, by the monotonic clock."""
        self._spent_s: dict[State, Seconds] = {"busy": 0.0, "answers": 0.0, "preparation": 0.0, "requests": 0.0}
        self._since_s = time.monotonic()
        self._lock = threading.Lock()

    @property
    def current_batch_s(self) -> Seconds:
        """Time since the launch of the oldest batch that is not answered; 0 if all launched batches are answered."""
        with self._lock:
            return time.monotonic() - self._started_s[0] if self._started_s else 0.0

    def spent_s(self) -> Mapping[State, Seconds]:
        """Return the seconds in each state, the current one included."""
        with self._enter():
            return dict(self._spent_s)

    def taken(self) -> None:
        """Record that a batch was taken from the queue."""
        with self._enter():
            self._taken += 1

    def discarded(self) -> None:
        """Record that a taken batch is not launched, because no segment of it can be scored."""
        with self._enter():
            self._taken -= 1

    def launched(self) -> None:
        """Record that the launch of the models on a taken batch begins."""
        with self._enter():
            self._taken -= 1
            self._on_device += 1
            self._started_s.append(time.monotonic())

    def computed(self) -> None:
        """Record that the device has done the launched work of a batch."""
        with self._enter():
            self._on_device -= 1

    def answered(self) -> None:
        """Record that the oldest batch has its answers."""
        with self._enter():
            self.batches += 1
            del self._started_s[0]

    @contextmanager
    def _enter(self) -> Iterator[None]:
        """Hold the lock for a change of the counts, after adding the time since the last change to the old state."""
        with self._lock:
            now_s = time.monotonic()
            self._spent_s[self._state()] += now_s - self._since_s
            self._since_s = now_s
            yield

    def _state(self) -> State:
        """Return the current state; the caller holds the lock."""
        if self._on_device:
            return "busy"
        if self._started_s:
            return "answers"
        return "preparation" if self._taken else "requests"


class BatchExecutor:
    """An executor of the scheduler's batches, with a thread per step: prepare, launch and, on a GPU, answer.

    On a CPU the thread that launches a batch also answers it. One batch is prepared ahead. Each thread drops its batch
    before it waits for the next one, because a batch keeps the arenas of its clients mapped.

    The server process ends on any error of a thread, such as the loss of the GPU. It also ends when a model fails on
    every segment of a batch that requested it, and then fails the self-test. The batches in flight are then not
    answered, and the clients send their segments to the next server process.
    """

    def __init__(self, suite: Suite, scheduler: RequestScheduler, crash_log: CrashLog) -> None:
        self.stats = ExecutorStats()
        self._suite, self._scheduler, self._crash_log = suite, scheduler, crash_log
        self._overlaps = overlaps_batches(suite)
        self._free_slots = threading.Semaphore(1)  # held from the preparation of a batch to its launch
        self._prepared: Queue[tuple[list[Request], Batch]] = Queue()
        # Held from before the launch of a batch until its answers are returned.
        self._places = threading.Semaphore(MAX_IN_FLIGHT if self._overlaps else 1)
        self._launched: Queue[tuple[list[Request], LaunchedBatch]] = Queue()

    def start(self) -> None:
        """Start the threads: three on a GPU, two on a CPU. They run until the process ends."""
        for step in (self._prepare, self._launch_batch, *([self._answer] if self._overlaps else [])):
            threading.Thread(target=_repeat, args=(step,), name=step.__name__.strip("_"), daemon=True).start()

    def _prepare(self) -> None:
        """Take a batch from the scheduler, pad it and check its audio. Segments with a fault are answered here."""
        self._free_slots.acquire()
        requests = self._scheduler.next_batch()
        self.stats.taken()
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
            self.stats.discarded()
            self._free_slots.release()

    def _launch_batch(self) -> None:
        """Wait until another batch may be in flight (two on a GPU, one on a CPU), then for a prepared batch; launch it.

        On a CPU the batch is also answered here. On a GPU the thread of ``_answer`` does that.
        """
        self._places.acquire()
        requests, batch = self._prepared.get()
        self.stats.launched()
        self._free_slots.release()
        self._crash_log.mark_started([request.id for request in requests])
        self._launched.put((requests, self._suite.launch(batch)))
        if not self._overlaps:
            self._answer()

    def _answer(self) -> None:
        """Wait for a launched batch and for the device, make the answers and return them to the clients.

        Models that failed on every segment that requested them are tested before the answers are returned. If one fails
        the test, the process ends.
        """
        requests, launched = self._launched.get()
        launched.wait_for_device()
        if self._overlaps:
            self.stats.computed()
        answers = self._suite.answer(launched)
        if failing := find_failing_models(answers):
            run_self_test(self._suite, failing)
        if not self._overlaps:
            self.stats.computed()
        self.stats.answered()
        self._crash_log.mark_finished([request.id for request in requests])
        self._scheduler.complete(requests, answers)
        self._places.release()


def overlaps_batches(suite: Suite) -> bool:
    """Return whether a batch is launched while another batch is answered. This is so on a GPU, not on a CPU."""
    return suite.device == "cuda"


def _repeat(step: Callable[[], None]) -> NoReturn:
    """Repeat a thread's step for ever; end the process on an error.

    If only one of the threads ended, clients would wait for ever.
    """
    try:
        while True:
            step()
    except BaseException:
        log.exception("fatal error: the inference server exits with code %d", ExitCode.INTERNAL_ERROR)
        os._exit(ExitCode.INTERNAL_ERROR)

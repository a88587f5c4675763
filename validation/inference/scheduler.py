"""Schedule requests: accept them from clients, hand out batches, return the answers to the clients. Thread-safe.

The crash log records the segments that are being scored. So a segment that crashes a model is recognised after the
restart of the server, and is not scored any more after ``MAX_CRASHES``.
"""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from validation.domain import Fault, Seconds, Unscored, Utterance
from validation.files import write_atomically
from validation.inference.batch_queue import FairBatchQueue, Request, may_admit
from validation.inference.protocol import Answers, BadFrame
from validation.models.suite import Suite

log = logging.getLogger(__name__)

MAX_CRASHES = 3
"""Number of crashes after which a segment is not scored any more. After the first crash the segment is scored alone, so
the segment itself probably causes the later crashes."""


class CrashLog:
    """A file that counts, per request id, the crashes of the server while that request was being scored.

    The ids are written to a file before each batch; the file outlives the process. At the next start, the ids in the
    file are those that were being scored at the crash, in up to two batches. Every end of the process without ``close``
    counts as a crash. The executor's threads and the thread that stops the server may call the methods concurrently.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._closed = False
        self._running: dict[str, None] = {}
        self._crashes, crashed = _read_crash_log(path)
        for request_id in crashed:
            self._crashes[request_id] = self._crashes.get(request_id, 0) + 1
        self._write()

    def crash_count(self, request_id: str) -> int:
        """Return how often the server crashed while this request was being scored."""
        return self._crashes.get(request_id, 0)

    def mark_started(self, request_ids: Sequence[str]) -> None:
        """Record that a batch is being scored from now on."""
        with self._lock:
            self._running |= dict.fromkeys(request_ids)
            self._write()

    def mark_finished(self, request_ids: Sequence[str]) -> None:
        """Record that the server survived a batch; its requests have no crashes any more."""
        with self._lock:
            for request_id in request_ids:
                self._crashes.pop(request_id, None)
                self._running.pop(request_id, None)
            self._write()

    def close(self) -> None:
        """Record an ordinary stop: the requests of the current batches get no crash."""
        with self._lock:
            self._running.clear()
            self._write()
            self._closed = True

    def _write(self) -> None:
        if self._closed:
            return
        try:
            write_atomically(self._path, json.dumps({"running": list(self._running), "crashes": self._crashes}))
        except OSError as error:  # a full disk does not stop the scoring
            log.warning("cannot record in %s which segments are being scored: %s", self._path, error)


def crash_fault(crash_count: int) -> Fault | None:
    """Return the fault of a segment that crashed the server too often; None if the segment may be scored."""
    if crash_count < MAX_CRASHES:
        return None
    return Fault("model_crashed", f"the inference server died {crash_count} times while it scored this segment")


def _read_crash_log(path: Path) -> tuple[dict[str, int], list[str]]:
    """Return the crash counts by request id, and the ids that were being scored; both are empty without a file."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return dict(recorded["crashes"]), list(recorded["running"])
    except (OSError, ValueError, KeyError):  # there is no file, or it has another format
        return {}, []


MAX_BATCH_WAIT_S: Seconds = 0.05
"""Batching delay: the longest time for which an idle server waits for more requests before it runs a batch that is not
full. The requests of one group of videos arrive within a shorter time."""
MAX_INFLIGHT_BATCHES_PER_CLIENT = 32
"""Limit of one client's unanswered audio, as a multiple of the batch budget. With 32 budgets, enough segments of
similar length are pending that padding is 3 % of a batch; with 8 budgets it is 7 %. On a GPU with a large batch budget
the client's arena holds less than this limit."""
RESPONSE_CACHE_SIZE = 4096
"""Number of requests whose answers are kept, for clients that lost their connection and send their requests again."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The pending requests at one moment."""

    segments: int
    audio_s: Seconds
    oldest_s: Seconds
    """Age of the oldest pending request; 0 if no request is pending."""


class RequestScheduler:
    """A scheduler between the thread that serves clients and the threads of the executor.

    Args:
        suite: gives the batch budget, the length to which short segments are padded, and the names of all models.
        crash_count: returns how often the server crashed while it scored the request with an id.
        on_completed: called, by any thread and under the scheduler's lock, when ``pop_completed`` has a new answer.
    """

    def __init__(self, suite: Suite, crash_count: Callable[[str], int], on_completed: Callable[[], None]) -> None:
        self._suite, self._crash_count, self._on_completed = suite, crash_count, on_completed
        self._queue = FairBatchQueue(min_padded_s=suite.min_padded_s)
        self._requests: dict[str, Request] = {}
        """Pending and running requests by id."""
        self._running = 0
        """Number of requests whose batch was taken and is not answered yet."""
        self._inflight_s: dict[Hashable, Seconds] = {}
        """Unanswered audio per connected client."""
        self._completed: list[tuple[Hashable, str, Answers]] = []
        """Answers that ``pop_completed`` has not returned yet."""
        self._response_cache: OrderedDict[str, Answers] = OrderedDict()
        self._changed = threading.Condition()

    # --- called by the server -----------------------------------------------------------------------------------------

    def add_client(self, client: Hashable) -> None:
        """Add a connected client, which has no requests yet."""
        with self._changed:
            self._inflight_s[client] = 0.0

    def can_accept(self, client: Hashable) -> bool:
        """Return whether the server should read another request of this client now."""
        with self._changed:
            own_s, all_s = self._inflight_s[client], self._inflight_s.values()
            max_inflight_s = MAX_INFLIGHT_BATCHES_PER_CLIENT * self._suite.budget.seconds
            return may_admit(own_s, sum(all_s), len(all_s), max_inflight_s=max_inflight_s)

    def submit(self, client: Hashable, request_id: str, utterance: Utterance) -> None:
        """Enqueue a segment, or answer it at once if its answer is cached or it has crashed the server too often.

        A request whose batch was taken over an earlier, broken connection is not scored a second time.

        Raises:
            BadFrame: a connected client already waits for the answer to this id.
        """
        crash_count = self._crash_count(request_id)
        with self._changed:
            if (cached := self._response_cache.get(request_id)) is not None:
                self._enqueue_response(client, request_id, cached)
            elif (fault := crash_fault(crash_count)) is not None:
                self._enqueue_response(client, request_id, self._all_unscored(fault))
            elif (running := self._requests.get(request_id)) is not None:
                if running.client in self._inflight_s:
                    raise BadFrame(f"request {request_id} is sent twice")
                running.client = client
                self._adjust_inflight(client, utterance.duration_s)
            else:
                request = Request(request_id, client, utterance, time.monotonic(), crash_count)
                self._requests[request_id] = request
                self._adjust_inflight(client, utterance.duration_s)
                self._queue.add(request)
                self._changed.notify_all()

    def cancel(self, client: Hashable, request_ids: Sequence[str]) -> None:
        """Remove requests of a client, except those whose batch is already taken."""
        with self._changed:
            own = [r for request_id in request_ids if (r := self._requests.get(request_id)) and r.client is client]
            for request in self._queue.cancel(own):
                del self._requests[request.id]
                self._adjust_inflight(client, -request.utterance.duration_s)

    def remove_client(self, client: Hashable) -> None:
        """Remove a client and its pending requests. Answers of a running batch are cached for a reconnect."""
        with self._changed:
            for request in self._queue.remove_client(client):
                del self._requests[request.id]
            self._inflight_s.pop(client, None)

    def pop_completed(self) -> list[tuple[Hashable, str, Answers]]:
        """Remove and return the completed answers, each with its client and request id."""
        with self._changed:
            completed, self._completed = self._completed, []
            return completed

    # --- called by the executor ---------------------------------------------------------------------------------------

    def next_batch(self) -> list[Request]:
        """Wait for the next batch and remove it from the queue.

        While a batch runs, only full batches are handed out, because a batch that is not full yet may become full
        before the models are idle.
        """
        with self._changed:
            while not self._has_batch():
                self._changed.wait(MAX_BATCH_WAIT_S if len(self._queue) and not self._running else None)
            batch = self._queue.pop_batch(self._suite.budget.seconds)
            self._running += len(batch)
            return batch

    def complete(self, requests: Sequence[Request], answers: Sequence[Answers]) -> None:
        """Cache the answers to requests of a batch, or of a part of it, and queue them for clients still connected."""
        with self._changed:
            self._running -= len(requests)
            for request, answer in zip(requests, answers, strict=True):
                del self._requests[request.id]
                self._cache_response(request.id, answer)
                if request.client in self._inflight_s:
                    self._adjust_inflight(request.client, -request.utterance.duration_s)
                    self._enqueue_response(request.client, request.id, answer)
            self._changed.notify_all()

    def fail(self, request: Request, fault: Fault) -> None:
        """Answer a request of a batch with the same fault for every model."""
        self.complete([request], [self._all_unscored(fault)])

    def stats(self) -> QueueStats:
        """Return the number, the audio and the greatest age of the pending requests."""
        with self._changed:
            oldest_s = self._queue.oldest_arrival_s()
            age_s = 0.0 if oldest_s is None else time.monotonic() - oldest_s
            return QueueStats(len(self._queue), self._queue.audio_s, age_s)

    # --- internal, under the lock -------------------------------------------------------------------------------------

    def _has_batch(self) -> bool:
        """Return whether ``next_batch`` may hand out a batch now."""
        oldest_s = self._queue.oldest_arrival_s()
        if oldest_s is None:
            return False
        has_waited = not self._running and time.monotonic() >= oldest_s + MAX_BATCH_WAIT_S
        return has_waited or self._queue.has_full_batch(self._suite.budget.seconds)

    def _all_unscored(self, fault: Fault) -> Answers:
        """Make an answer with this fault for every model."""
        return dict.fromkeys(self._suite.columns, Unscored(fault))

    def _adjust_inflight(self, client: Hashable, audio_s: Seconds) -> None:
        """Add seconds, which may be negative, to the unanswered audio of a client."""
        self._inflight_s[client] += audio_s

    def _cache_response(self, request_id: str, answers: Answers) -> None:
        """Keep answers for a client that sends its request again."""
        self._response_cache[request_id] = answers
        while len(self._response_cache) > RESPONSE_CACHE_SIZE:
            self._response_cache.popitem(last=False)

    def _enqueue_response(self, client: Hashable, request_id: str, answers: Answers) -> None:
        """Add answers to those that ``pop_completed`` returns."""
        self._completed.append((client, request_id, answers))
        self._on_completed()

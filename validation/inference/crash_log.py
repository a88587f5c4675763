"""Which segments were being scored when the server crashed, so that a segment that crashes a model is found."""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from validation.domain import Fault
from validation.files import write_atomically

log = logging.getLogger(__name__)

MAX_CRASHES = 3
"""Crashes over one segment after which it is no longer tried. After the first crash the segment is scored alone, so
the later crashes are its own, unless something else killed the server at that moment; twice in a row is no accident."""


class CrashLog:
    """Counts, per request id, the crashes of the server while that request was being scored.

    The ids are written to a file before each batch; the file outlives the process. The ids that the file lists at the
    next start were being scored at the crash. Safe for the executor thread and the thread that stops the server.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._closed = False
        self._crashes, running = _read(path)
        for request_id in running:
            self._crashes[request_id] = self._crashes.get(request_id, 0) + 1
        self._write(())

    def crash_count(self, request_id: str) -> int:
        return self._crashes.get(request_id, 0)

    def mark_started(self, request_ids: Sequence[str]) -> None:
        """Record the batch that is being scored now."""
        self._write(request_ids)

    def mark_finished(self, request_ids: Sequence[str]) -> None:
        """Record that the server survived a batch; its requests have no crashes any more."""
        for request_id in request_ids:
            self._crashes.pop(request_id, None)
        self._write(())

    def close(self) -> None:
        """Record an ordinary stop: the batch that is being scored counts no crash."""
        with self._lock:
            self._replace(())
            self._closed = True

    def _write(self, running: Sequence[str]) -> None:
        with self._lock:
            if not self._closed:
                self._replace(running)

    def _replace(self, running: Sequence[str]) -> None:
        try:
            write_atomically(self._path, json.dumps({"running": list(running), "crashes": self._crashes}))
        except OSError as error:  # a full disk does not stop the scoring
            log.warning("cannot record in %s which segments are being scored: %s", self._path, error)


def quarantine_fault(crash_count: int) -> Fault | None:
    """Return the fault of a segment that must not be tried again; None if it may be."""
    if crash_count < MAX_CRASHES:
        return None
    return Fault("model_crashed", f"the inference server died {crash_count} times while it scored this segment")


def _read(path: Path) -> tuple[dict[str, int], list[str]]:
    try:
        recorded = json.loads(path.read_text())
        return dict(recorded["crashes"]), list(recorded["running"])
    except (OSError, ValueError, KeyError):  # there is no file, or it has another format
        return {}, []

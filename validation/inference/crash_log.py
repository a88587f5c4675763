"""What the host had in hand when it died, so that what kills it is found."""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from validation.domain import Fault
from validation.files import write_atomically

log = logging.getLogger(__name__)

MAX_CRASHES_PER_REQUEST = 3
"""Deaths over one segment after which it is given up. From the first on it travels alone, so the later ones are its
own, unless somebody else killed the host just then: twice in a row is no accident."""


class CrashLog:
    """Counts, for each segment, the deaths of the host that it was being scored in.

    Written before each batch, to a file that outlives the process: what stands there at the next start died with it.
    Safe for the thread that scores and the one that ends the host.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._turn = path, threading.Lock()
        self._closed = False
        self._deaths, in_hand = _read(path)
        for ask_id in in_hand:
            self._deaths[ask_id] = self._deaths.get(ask_id, 0) + 1
        self._write(())

    def crash_count(self, ask_id: str) -> int:
        return self._deaths.get(ask_id, 0)

    def begin(self, ask_ids: Sequence[str]) -> None:
        """Write down what is scored now."""
        self._write(ask_ids)

    def end(self, ask_ids: Sequence[str]) -> None:
        """The host has survived them."""
        for ask_id in ask_ids:
            self._deaths.pop(ask_id, None)
        self._write(())

    def close(self) -> None:
        """The host ends of its own accord, whatever it has in hand: nobody has died over it."""
        with self._turn:
            self._replace(())
            self._closed = True

    def _write(self, in_hand: Sequence[str]) -> None:
        with self._turn:
            if not self._closed:
                self._replace(in_hand)

    def _replace(self, in_hand: Sequence[str]) -> None:
        try:
            write_atomically(self._path, json.dumps({"in_hand": list(in_hand), "deaths": self._deaths}))
        except OSError as error:  # a full disk is no reason not to score
            log.warning("what is scored now is not written down: %s", error)


def quarantine_fault(deaths: int) -> Fault | None:
    """Why a segment is not tried again, if so."""
    if deaths < MAX_CRASHES_PER_REQUEST:
        return None
    return Fault("model_crashed", f"the model host died {deaths} times while it scored this segment")


def _read(path: Path) -> tuple[dict[str, int], list[str]]:
    try:
        written = json.loads(path.read_text())
        return dict(written["deaths"]), list(written["in_hand"])
    except (OSError, ValueError, KeyError):  # none, or not one of ours
        return {}, []

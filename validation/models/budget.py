"""How much may travel together, learned the hard way and not forgotten."""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from validation.domain import Seconds
from validation.files import write_atomically
from validation.models.weights import default_cache

log = logging.getLogger(__name__)


class Budget:
    """Padded seconds that a batch may hold, attention's share included. It only ever shrinks.

    Args:
        start_s: where it starts, if nothing less is remembered.
        kept_in: the file that remembers, for later processes of this machine; None forgets. Delete it to start anew.
    """

    def __init__(self, start_s: Seconds, *, kept_in: Path | None = None) -> None:
        self._kept_in = kept_in
        self.seconds = min(start_s, _read(kept_in) or start_s)
        self.overruns = 0
        """Batches so far that needed more memory than there was."""

    def halve(self, cost_s: Seconds) -> None:
        """A batch of this cost was too large: half of it is the most from now on."""
        self.overruns += 1
        if cost_s / 2 < self.seconds:
            log.warning("out of memory: batches hold %.0f s from now on, not %.0f", cost_s / 2, self.seconds)
            self.seconds = cost_s / 2
            _write(self._kept_in, self.seconds)


def budget_file(suite: str, revisions: Mapping[str, str], card: str | None) -> Path:
    """Where the budget of a suite is remembered: other weights or another card begin anew."""
    key = hashlib.sha256(json.dumps([sorted(revisions.items()), card]).encode()).hexdigest()[:12]
    return default_cache().with_name("budgets") / f"{suite}-{key}.json"


def _read(path: Path | None) -> Seconds | None:
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or not one of ours
        return float(json.loads(path.read_text())["budget_s"]) if path else None
    return None


def _write(path: Path | None, seconds: Seconds) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"budget_s": seconds}))
    except OSError as error:
        log.warning("the budget of %.0f s is not remembered: %s", seconds, error)

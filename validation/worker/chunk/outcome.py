"""How flow runs tell their worker about errors that the next run would meet too, so that the worker stops claiming."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from validation.errors import BadInput, ClaimLost, Transient
from validation.ledger.rpc import BoxKeyRejected
from validation.storage.errors import StoreRefused
from validation.worker.chunk.video_errors import SourceMismatch

OUTCOME_FILE_VARIABLE = "VFLEET_OUTCOME_FILE"
"""Names, in a flow run's environment, the file to which the run writes its outcome for its worker."""
STOP_ERRORS = (BoxKeyRejected, StoreRefused, SourceMismatch)
"""Errors after which the worker stops at once: every further chunk would be claimed in vain."""
MAX_EQUAL_REFUSALS = 3
"""Flow runs in a row that end with the same error, after which the worker stops."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The end of a flow run. ``kind`` is the name of the error's class; empty after a success."""

    kind: str = ""
    message: str = ""
    stop: bool = False


class WorkerRefused(BadInput):
    """Flow runs of a worker end with an error that only a person can remove, so the worker stops."""


@contextmanager
def report_outcome() -> Iterator[None]:
    """Write the outcome of the block for the worker that started this process; without a worker, do nothing.

    A transient error or a lost claim is not reported: it says nothing about the next run.
    """
    try:
        yield
    except (Transient, ClaimLost):
        raise
    except Exception as error:
        _write(RunOutcome(type(error).__name__, str(error) or repr(error), isinstance(error, STOP_ERRORS)))
        raise
    else:
        _write(RunOutcome())


def take_outcome(path: Path) -> RunOutcome | None:
    """Read and delete the outcome of a flow run; None if it wrote none."""
    try:
        outcome = RunOutcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not written, or cut off with its process
        return None
    finally:
        path.unlink(missing_ok=True)
    return outcome


class RefusalStreak:
    """Counts flow runs in a row that ended with the same error."""

    def __init__(self) -> None:
        self._kind, self._count = "", 0

    def add(self, outcome: RunOutcome) -> WorkerRefused | None:
        """Count an outcome; returns the error with which the worker must stop, None if it may go on."""
        self._count = self._count + 1 if outcome.kind == self._kind else 1
        self._kind = outcome.kind
        if outcome.stop:
            return WorkerRefused(outcome.message)
        if outcome.kind and self._count >= MAX_EQUAL_REFUSALS:
            return WorkerRefused(f"{self._count} flow runs in a row ended with {outcome.kind}: {outcome.message}")
        return None


def _write(outcome: RunOutcome) -> None:
    if path := os.environ.get(OUTCOME_FILE_VARIABLE):
        partial = Path(f"{path}.partial")
        with suppress(OSError):  # the folder goes with the worker, which reads the file
            partial.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
            partial.replace(path)

"""Classify the errors of a chunk: errors of one video, and errors that the next chunk would have too.

Only the errors of ``VIDEO_ERRORS`` are errors of a video and cost it an attempt. Every other error, known or unknown,
is an error of the box, a service, a setting or this program. It returns the video to the queue and costs no attempt. A
flow run reports its final error to the worker, so that the worker stops claiming when every run would fail.
"""

import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from validation.corpus.audio import AudioDecodeError
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import NotTar, TarCorrupt, TarUnsafe
from validation.domain import VideoFailure
from validation.errors import BadInput, ClaimLost, Transient
from validation.files import write_atomically
from validation.ledger.rpc import BoxKeyRejected
from validation.storage.errors import InvalidObjectKey, ObjectMissing, StoreRefused

NO_OBJECT_ERRORS = (ObjectMissing, InvalidObjectKey)
"""The store answers, but has no object under the key: the video's object is missing, or the address is wrong."""

VIDEO_ERRORS = (*NO_OBJECT_ERRORS, TarCorrupt, TarUnsafe, BadLayout, NoSegments, VideoTooLong, AudioDecodeError)
"""Errors of a video itself: no object, a bad tar, a bad layout, no segments, too much or undecodable audio."""


class SourceMismatch(BadInput):
    """All videos of a chunk fail alike, and no validated video can be read: the source or its address is wrong."""

    def __init__(self, chunk_id: object, failures: int, first: str) -> None:
        self.chunk_id = chunk_id
        super().__init__(
            f"all {failures} videos of chunk {chunk_id} fail alike ({first}): check VFLEET_SOURCE_URL, "
            "VFLEET_SOURCE_KEY and R2_ENDPOINT_URL, and read one object with `vfleet inspect KEY`; no video was charged"
        )


def find_common_failure(errors: Collection[Exception]) -> str | None:
    """Return the kind of failure that all errors share; None if kinds differ or one is no error of a video.

    A missing object and an object that is no tar are of one kind, because a wrong address can cause either.
    """
    kinds = {_failure_kind(error) for error in errors}
    return kinds.pop() if len(kinds) == 1 else None


def _failure_kind(error: Exception) -> str | None:
    """Return the kind of an error of a video; None for any other error."""
    if isinstance(error, (*NO_OBJECT_ERRORS, NotTar)):
        return "no tar"
    return type(error).__name__ if isinstance(error, VIDEO_ERRORS) else None


def make_video_failure(video_id: str, error: Exception) -> VideoFailure:
    """Return the failure of a video: final and charged for ``VIDEO_ERRORS``, else transient and uncharged."""
    is_own = isinstance(error, VIDEO_ERRORS)
    return VideoFailure(video_id, str(error) or repr(error), transient=not is_own, charged=is_own)


OUTCOME_FILE_VARIABLE = "VFLEET_OUTCOME_FILE"
"""Environment variable of a flow run with the path of the file to which the run writes its outcome for its worker."""
STOP_ERRORS = (BoxKeyRejected, StoreRefused, SourceMismatch)
"""Errors after which the worker stops at once, because the next chunk would probably fail with the same error."""
MAX_EQUAL_REFUSALS = 3
"""The worker stops after this many flow runs in a row that reported an error of the same class. A run that ended with a
transient error or a lost claim reports nothing, and does not interrupt the row."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """The outcome of a flow run: its error, or a success."""

    kind: str = ""
    """The class name of the error; empty after a success."""
    message: str = ""
    """The message of the error; empty after a success."""
    stop: bool = False
    """Whether the worker must stop at once."""


class WorkerRefused(BadInput):
    """The worker stops, because its flow runs end with an error that only a person can remove."""


@contextmanager
def report_outcome() -> Iterator[None]:
    """Write the outcome of the block to the file of the worker that started this process; without a worker, do nothing.

    A transient error or a lost claim is not reported, because the next run may succeed.
    """
    try:
        yield
    except (Transient, ClaimLost):
        raise
    except Exception as error:
        _write_outcome(RunOutcome(type(error).__name__, str(error) or repr(error), isinstance(error, STOP_ERRORS)))
        raise
    else:
        _write_outcome(RunOutcome())


def take_outcome(path: Path) -> RunOutcome | None:
    """Read and delete the outcome of a flow run; None if the run wrote no valid outcome."""
    try:
        outcome = RunOutcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # the file is missing or incomplete
        return None
    finally:
        path.unlink(missing_ok=True)
    return outcome


class RefusalStreak:
    """A count of the latest outcomes in a row whose errors have the same class."""

    def __init__(self) -> None:
        self._kind, self._count = "", 0

    def add(self, outcome: RunOutcome) -> WorkerRefused | None:
        """Count an outcome; return the error with which the worker must stop, None if it may go on."""
        self._count = self._count + 1 if outcome.kind == self._kind else 1
        self._kind = outcome.kind
        if outcome.stop:
            return WorkerRefused(outcome.message)
        if outcome.kind and self._count >= MAX_EQUAL_REFUSALS:
            return WorkerRefused(f"{self._count} flow runs in a row ended with {outcome.kind}: {outcome.message}")
        return None


def _write_outcome(outcome: RunOutcome) -> None:
    """Write an outcome to the file that the worker has named, if there is a worker."""
    if path := os.environ.get(OUTCOME_FILE_VARIABLE):
        with suppress(OSError):  # the worker has ended and deleted the folder
            write_atomically(Path(path), json.dumps(asdict(outcome)))

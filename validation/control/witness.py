"""The control plane as the second witness: it reads the object of a video that boxes of only one owner have failed.

A failure that a box with a key reports is not final (see ``commit_chunk``): a box of another owner must fail the video
too. The control plane can take the place of the second box: it reads the object of the video as a box does. This
confirms every failure that an honest box reports: a missing object, a broken tar, a bad layout, no usable audio.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import monotonic

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.domain import DecodedVideo, Seconds, Video
from validation.errors import Permanent
from validation.ledger.boxes import prune_box_decisions, read_unwitnessed_failures, settle_failure

TIME_LIMIT_S: Seconds = 90.0
"""Seconds after which no further video is read. The next run of `report-progress` continues."""
VideoReader = Callable[[Video], DecodedVideo]
"""A function that reads and decodes a video's object as a box does. Raises ``Permanent`` if the object is unusable."""


@dataclass(frozen=True, slots=True)
class SettledFailure:
    """A failure reported by one owner that the control plane has confirmed or refuted by reading the video's object."""

    video_id: str
    owner: str
    """The owner of the boxes that failed the video."""
    is_confirmed: bool
    """Whether the object is unusable for the control plane too."""


def make_video_reader(open_source: Callable[[], ObjectStore], key_template: str) -> VideoReader:
    """Return a function that reads videos from the source store. The store is opened for the first video."""
    open_once = cache(open_source)

    def read(video: Video) -> DecodedVideo:
        from validation.corpus.fetch import fetch_video  # noqa: PLC0415 - numpy and decoders, which are rarely needed

        return fetch_video(open_once(), key_template.format(video_id=video.video_id), video)

    return read


def witness_failures(
    engine: Engine, read_video: VideoReader, *, within_s: Seconds = TIME_LIMIT_S
) -> list[SettledFailure]:
    """Read the videos of failures without a second witness, oldest first, and record each result in the ledger.

    Videos that were read without an error before are not read again. A recorded result can quarantine a box (see
    ``settle_failure``). Decisions of boxes that are older than a week are deleted before, except those about
    videos that wait for a second witness.

    Args:
        engine: the ledger.
        read_video: reads and decodes the object of a video.
        within_s: seconds after which no further video is read.

    Raises:
        Transient, BadInput: the store does not answer or refuses; no result was recorded for that video.
    """
    prune_box_decisions(engine)
    settled, ends_at = [], monotonic() + within_s
    for failure in read_unwitnessed_failures(engine):
        if failure.is_refuted or monotonic() >= ends_at:
            continue
        # Videos with a crash are decoded in a subprocess, so a hostile file cannot crash the control flow.
        video = Video(failure.video_id, failure.language, failure.segment_count, crashes=1)
        is_confirmed = _is_unreadable(read_video, video)
        settle_failure(engine, failure.video_id, is_confirmed=is_confirmed)
        settled.append(SettledFailure(failure.video_id, failure.owner, is_confirmed))
    return settled


def _is_unreadable(read_video: VideoReader, video: Video) -> bool:
    """Return whether the object of a video is unusable. Errors of the store are raised."""
    try:
        read_video(video)
    except Permanent:
        return True
    return False

"""The control plane as the second witness: it reads the object of a video that only one box has failed.

A failure that one box reports is not final (see ``commit_chunk``): a box of another owner may fail the video too. Where
no other box is, or until one has claimed the video, the control plane reads the object as a box does. All failures that
an honest box reports are of this kind: a missing object, a broken tar, a bad layout, no usable audio.
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
"""After which no further video is begun: the next run, ten minutes later, goes on."""
VideoReader = Callable[[Video], DecodedVideo]
"""Reads a video's object as a box does. Raises ``Permanent`` if that cannot be done."""


@dataclass(frozen=True, slots=True)
class SettledFailure:
    """A failure of one box that the control plane has confirmed or refuted by reading the object itself."""

    video_id: str
    owner: str
    """Of the box that failed it."""
    is_confirmed: bool
    """Whether the control plane cannot read the object either."""


def video_reader(open_source: Callable[[], ObjectStore], key_template: str) -> VideoReader:
    """Read videos from the source store, which is opened for the first of them."""
    open_once = cache(open_source)

    def read(video: Video) -> DecodedVideo:
        from validation.corpus.fetch import fetch_video  # noqa: PLC0415 - numpy and decoders, which are rarely needed

        return fetch_video(open_once(), key_template.format(video_id=video.video_id), video)

    return read


def witness_failures(
    engine: Engine, read_video: VideoReader, *, within_s: Seconds = TIME_LIMIT_S
) -> list[SettledFailure]:
    """Look at the oldest failures that lack a second witness, and record what was found.

    Raises:
        Transient, BadInput: the store does not answer or refuses; nothing was recorded of that video.
    """
    prune_box_decisions(engine)
    settled, ends_at = [], monotonic() + within_s
    for failure in read_unwitnessed_failures(engine):
        if failure.is_refuted or monotonic() >= ends_at:
            continue
        # With a crash it is decoded in a subprocess: a hostile file crashes no control flow.
        video = Video(failure.video_id, failure.language, failure.segment_count, crashes=1)
        is_confirmed = _is_unreadable(read_video, video)
        settle_failure(engine, failure.video_id, is_confirmed=is_confirmed)
        settled.append(SettledFailure(failure.video_id, failure.owner, is_confirmed))
    return settled


def _is_unreadable(read_video: VideoReader, video: Video) -> bool:
    try:
        read_video(video)
    except Permanent:
        return True
    return False

"""Which errors are about a video itself. Only these cost the video an attempt.

Every other error, known or unknown, is about the box, a service, a setting or this program. It returns the video to the
queue as it was.
"""

from collections.abc import Collection

from validation.corpus.audio import Undecodable
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import NotTar, TarCorrupt, TarUnsafe
from validation.domain import VideoFailure
from validation.errors import BadInput
from validation.storage.errors import InvalidObjectKey, ObjectMissing

NO_OBJECT_ERRORS = (ObjectMissing, InvalidObjectKey)
"""The store answers, and has no object of this name: the video's object is missing, or the address is wrong."""

VIDEO_ERRORS = (*NO_OBJECT_ERRORS, TarCorrupt, TarUnsafe, BadLayout, NoSegments, VideoTooLong, Undecodable)
"""Its missing object, its tar, its layout, its audio."""


class SourceMismatch(BadInput):
    """Each video of a chunk fails for the same reason, so the source or its address is at fault and no video is."""

    def __init__(self, chunk_id: object, failures: int, first: str) -> None:
        self.chunk_id = chunk_id
        super().__init__(
            f"all {failures} videos of chunk {chunk_id} fail alike ({first}): check VFLEET_SOURCE_URL, "
            "VFLEET_SOURCE_KEY and R2_ENDPOINT_URL, and read one object with `vfleet inspect KEY`; no video was charged"
        )


def find_common_failure(errors: Collection[Exception]) -> str | None:
    """Name the kind of failure that all errors have in common; None if they differ, or if one is not about a video.

    A missing object and an object that is no tar are one kind: a wrong address leads to either.
    """
    kinds = {_kind_of(error) for error in errors}
    return kinds.pop() if len(kinds) == 1 else None


def _kind_of(error: Exception) -> str | None:
    if isinstance(error, (*NO_OBJECT_ERRORS, NotTar)):
        return "no tar"
    return type(error).__name__ if isinstance(error, VIDEO_ERRORS) else None


def fail_video(video_id: str, error: Exception) -> VideoFailure:
    """Describe the failure of a video: final and charged if the error is one of ``VIDEO_ERRORS``, else neither."""
    is_own = isinstance(error, VIDEO_ERRORS)
    return VideoFailure(video_id, str(error) or repr(error), transient=not is_own, charged=is_own)

"""Which errors are about a video itself. Only these cost the video an attempt.

Every other error, known or unknown, is about the box, a service, a setting or this program. It returns the video to the
queue as it was.
"""

from validation.corpus.audio import Undecodable
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import TarCorrupt, TarUnsafe
from validation.domain import VideoFailure
from validation.errors import BadInput
from validation.storage.errors import InvalidObjectKey, ObjectMissing

NO_OBJECT_ERRORS = (ObjectMissing, InvalidObjectKey)
"""The store answers, and has no object of this name: the video's object is missing, or the address is wrong."""

VIDEO_ERRORS = (*NO_OBJECT_ERRORS, TarCorrupt, TarUnsafe, BadLayout, NoSegments, VideoTooLong, Undecodable)
"""Its missing object, its tar, its layout, its audio."""


class SourceMismatch(BadInput):
    """Not one video of a chunk has its object in the source store, so the address is wrong and no video is at fault."""

    def __init__(self, chunk_id: object, failures: int, first: str) -> None:
        self.chunk_id = chunk_id
        super().__init__(
            f"none of the {failures} videos of chunk {chunk_id} was found ({first}): check VFLEET_SOURCE_URL, "
            "VFLEET_SOURCE_KEY and R2_ENDPOINT_URL; no video was charged"
        )


def fail_video(video_id: str, error: Exception) -> VideoFailure:
    """Describe the failure of a video: final and charged if the error is one of ``VIDEO_ERRORS``, else neither."""
    is_own = isinstance(error, VIDEO_ERRORS)
    return VideoFailure(video_id, str(error) or repr(error), transient=not is_own, charged=is_own)

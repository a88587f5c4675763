"""Generate any number of small videos. Some of them are broken in known ways."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from validation.corpus.pack import PackedSegment, pack_video
from validation.corpus.tar import TarCorrupt
from validation.domain import SAMPLE_RATE, Seconds, Video, Waveform
from validation.errors import Permanent
from validation.local.sample_corpus import decode_clip, load_clips
from validation.storage.errors import ObjectMissing

POISON = "poison"
"""Id of the one video whose download kills the flow process."""
SLICE_S: tuple[Seconds, Seconds] = (0.8, 2.0)
BROKEN_EVERY = 15
"""One video in 15 is broken, by the functions in ``BREAKERS`` in turn."""


class ProcessKilled(Permanent):
    """The kind of failure of ``POISON``. The ledger counts the crashes; no program raises this error."""


@dataclass(frozen=True, slots=True)
class ChaosVideo:
    """A video to queue, with its expected outcome."""

    queued: Video
    tar: bytes | None
    """The content of the tar; None if no object is uploaded on purpose."""
    segments: int
    error: type[Permanent] | None = None
    """The kind of error with which the video must fail; None if the video must be validated."""


class ChaosCorpus:
    """Makes videos of two or three segments, each a slice of a packaged clip. Equal seeds give equal videos."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - the corpus must be reproducible
        self._clips = [(clip, decode_clip(name)) for name, clip in load_clips().items()]
        self.videos: dict[str, ChaosVideo] = {}
        """All videos made so far, by id."""

    def make(self, count: int) -> list[ChaosVideo]:
        """Make the next ``count`` videos. The first video of a corpus is ``POISON``."""
        made = [self._make(len(self.videos) + offset) for offset in range(count)]
        self.videos |= {video.queued.video_id: video for video in made}
        return made

    def _make(self, number: int) -> ChaosVideo:
        if number == 0:
            return replace(self._pack(POISON), error=ProcessKilled)
        if number % BROKEN_EVERY:
            return self._pack(f"video-{number:05d}")
        return BREAKERS[number // BROKEN_EVERY % len(BREAKERS)](self._pack, number)

    def _pack(self, video_id: str) -> ChaosVideo:
        segments = list(self._cut_segments(self._random.choice((2, 3))))
        queued = Video(video_id, segments[0].language, len(segments))
        return ChaosVideo(queued, pack_video(queued, segments), len(segments))

    def _cut_segments(self, count: int) -> Iterator[PackedSegment]:
        for _ in range(count):
            clip, waveform = self._random.choice(self._clips)
            yield replace(clip, audio=self._slice(waveform))

    def _slice(self, waveform: Waveform) -> Waveform:
        length = min(round(self._random.uniform(*SLICE_S) * SAMPLE_RATE), len(waveform))
        start = self._random.randrange(len(waveform) - length + 1)
        return waveform[start : start + length]


def omit_object(pack: Callable[[str], ChaosVideo], number: int) -> ChaosVideo:
    """Make a video whose tar is not uploaded."""
    return replace(pack(f"missing-{number:05d}"), tar=None, error=ObjectMissing)


def truncate_tar(pack: Callable[[str], ChaosVideo], number: int) -> ChaosVideo:
    """Make a video whose tar is cut in half, as after an interrupted upload."""
    whole = pack(f"cut-{number:05d}")
    return replace(whole, tar=(whole.tar or b"")[: len(whole.tar or b"") // 2], error=TarCorrupt)


BREAKERS = (omit_object, truncate_tar)

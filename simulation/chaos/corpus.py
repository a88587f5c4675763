"""An endless corpus of small videos, some of them broken in known ways."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Seconds, Video, Waveform
from validation.local.sample_corpus import decode_clip, load_clips

POISON = "poison"
"""The one video that kills whoever asks for it."""
SLICE_S: tuple[Seconds, Seconds] = (0.8, 2.0)
BREAK_EVERY = 15
"""One video in so many is broken, in each way in turn."""


@dataclass(frozen=True, slots=True)
class ChaosVideo:
    """A video to queue, and what must become of it."""

    queued: Video
    tar: bytes | None
    """None where the object is missing."""
    segments: int
    error: str | None = None
    """Part of the reason for which it must fail; None if it must be validated."""


class ChaosCorpus:
    """Makes videos of two or three segments, each a slice of a packaged clip. Equal seeds make equal videos."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - a corpus that can be repeated is the point
        self._clips = [(clip, decode_clip(name)) for name, clip in load_clips().items()]
        self.videos: dict[str, ChaosVideo] = {}
        """All that were made, by id."""

    def make(self, count: int) -> list[ChaosVideo]:
        """Make the next videos. The very first is the poison."""
        made = [self._make(len(self.videos) + place) for place in range(count)]
        self.videos |= {video.queued.video_id: video for video in made}
        return made

    def _make(self, number: int) -> ChaosVideo:
        if number == 0:
            return replace(self._pack(POISON), error="poison: its process died 3 times")
        if number % BREAK_EVERY:
            return self._pack(f"video-{number:05d}")
        return BREAKERS[number // BREAK_EVERY % len(BREAKERS)](self._pack, number)

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


def lose_object(pack: Callable[[str], ChaosVideo], number: int) -> ChaosVideo:
    """A video whose object was never uploaded."""
    return replace(pack(f"missing-{number:05d}"), tar=None, error="does not exist")


def cut_tar(pack: Callable[[str], ChaosVideo], number: int) -> ChaosVideo:
    """A tar that ends in the middle, as after a cut upload."""
    whole = pack(f"cut-{number:05d}")
    return replace(whole, tar=(whole.tar or b"")[: len(whole.tar or b"") // 2], error="unexpected end of data")


BREAKERS = (lose_object, cut_tar)

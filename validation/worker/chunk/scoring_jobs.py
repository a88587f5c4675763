"""What the models were asked about a group of videos, and how far they have answered."""

from collections.abc import Iterator, Sequence

from validation.domain import DecodedVideo, Seconds
from validation.models.base import Scorer
from validation.models.rows import Row, build_rows


class GroupScoringJob:
    """Some videos before the models. Each is taken as rows once, when its last segment is answered."""

    def __init__(self, videos: Sequence[DecodedVideo], scorer: Scorer) -> None:
        self._scorer = scorer
        self._scoring = scorer.begin([s.utterance for video in videos for s in video.segments if s.utterance])
        self._open: list[tuple[DecodedVideo, slice]] = []
        end = 0
        for video in videos:
            start, end = end, end + sum(segment.utterance is not None for segment in video.segments)
            self._open.append((video, slice(start, end)))

    @property
    def current(self) -> str | None:
        """The video that is answered next, as far as can be told."""
        return self._open[0][0].video.video_id if self._open else None

    def wait(self, timeout_s: Seconds) -> bool:
        """Wait until nothing more will be answered, or until time is over; whether nothing more will.

        Raises:
            Transient: the models could not answer. Another inquiry may be made about what is lacking.
        """
        return self._scoring.wait(timeout_s)

    def take_answered(self) -> Iterator[tuple[DecodedVideo, list[Row]]]:
        """The videos that have been answered since."""
        answers = self._scoring.answers()
        for video, own in list(self._open):
            known = [answer for answer in answers[own] if answer is not None]
            if len(known) == own.stop - own.start:
                self._open.remove((video, own))
                yield video, build_rows(video, iter(known), self._scorer)

    def cancel(self) -> None:
        """Do without what has not been answered."""
        self._scoring.cancel()

"""One claimed chunk on its way from videos to shard rows, in the memory of one process."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from validation.chunk.judge import Row, Scorer, judge_video
from validation.chunk.look_ahead import LookAhead, Stopped
from validation.domain import ChunkClaim, DecodedVideo, Progress, Video, VideoFailure
from validation.errors import Permanent, Transient
from validation.settings import Settings

RATE_WINDOW = 10
"""Videos over which the worker's segments per second are averaged."""


class GroupIncomplete(Transient):
    """Some videos of a group could not be fetched now. Those that were are kept: a retry fetches only the rest."""

    def __init__(self, group: int, missing: Sequence[str], cause: Exception) -> None:
        self.group, self.missing, self.cause = group, tuple(missing), cause
        super().__init__(f"group {group}: {len(missing)} videos not fetched, {missing[0]} because {cause}")


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What became of a group, as a task shows it."""

    videos: int
    failed: int
    segments: int


class ChunkWork:
    """The videos of one claim: fetched ahead in groups, scored in order, kept as rows until the shard is written.

    Fetching may run in other threads than scoring; a group is fetched by one thread and scored by one.
    """

    def __init__(
        self,
        claim: ChunkClaim,
        *,
        fetch: Callable[[Video], DecodedVideo],
        scorer: Scorer,
        settings: Settings,
        draining: Callable[[], bool],
    ) -> None:
        self.claim = claim
        self.groups: tuple[tuple[Video, ...], ...] = tuple(_cut(claim.videos, settings.group_videos))
        self.rows: dict[str, list[Row]] = {}
        self.failures: dict[str, VideoFailure] = {}
        self.draining = draining
        self.room = LookAhead(max_videos=settings.look_ahead_videos, max_bytes=settings.look_ahead_bytes)
        self.scorer, self._fetch_video, self._fetchers = scorer, fetch, settings.fetchers
        self._fetched: dict[str, DecodedVideo] = {}
        self._current: str | None = None
        self._last_error: str | None = None
        self._finished: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=RATE_WINDOW + 1)
        self._lock = threading.Lock()

    # --- fetching -------------------------------------------------------------------------------------------------

    def fetch_group(self, number: int) -> GroupReport:
        """Fetch and decode what the group still lacks.

        A video that can never be fetched is recorded as failed and does not count as lacking.

        Raises:
            GroupIncomplete: some videos could not be fetched now; call again.
        """
        group = self.groups[number]
        lacking = [video for video in group if not self._is_settled(video)]
        with ThreadPoolExecutor(self._fetchers, thread_name_prefix=f"fetch-{number}") as pool:
            troubles = list(pool.map(partial(self._fetch, number), lacking))
        missing = {video.video_id: trouble for video, trouble in zip(lacking, troubles, strict=True) if trouble}
        if missing:
            raise GroupIncomplete(number, tuple(missing), next(iter(missing.values())))
        return self._report(group)

    def give_up_group(self, number: int, cause: Exception) -> None:
        """Go on without the videos that the group still lacks, once retrying has not helped."""
        for video in self.groups[number]:
            if not self._is_settled(video):
                self._fail(video, str(cause), transient=True)

    def _fetch(self, number: int, video: Video) -> Transient | None:
        try:
            self.room.enter(number)
        except Stopped:
            return None
        try:
            decoded = self._fetch_video(video)
        except (Permanent, Transient) as error:
            self.room.leave(0)
            if isinstance(error, Transient):
                return error
            self._fail(video, str(error), transient=False)
        else:
            self.room.fill(decoded.audio_bytes)
            with self._lock:
                self._fetched[video.video_id] = decoded
        return None

    # --- scoring --------------------------------------------------------------------------------------------------

    def score_group(self, number: int, *, check: Callable[[], None]) -> GroupReport:
        """Score the group's fetched videos, a wave at a time, until done or told to drain.

        Args:
            number: which group.
            check: called before each wave; raises if the chunk is not ours any more.

        Raises:
            Transient: the scorer could not answer; call again. Videos already scored are kept.
        """
        group = self.groups[number]
        for wave in self._waves(group):
            check()
            if self.draining():
                break
            self._score_wave(wave)
        return self._report(group)

    def _waves(self, group: Sequence[Video]) -> Iterator[list[DecodedVideo]]:
        """As many videos at once as keep the scorer's batches full, and no more: a drain waits for one wave."""
        wave: list[DecodedVideo] = []
        waiting_s = 0.0
        for video in group:
            with self._lock:
                decoded = self._fetched.get(video.video_id)
            if decoded is None:
                continue
            wave.append(decoded)
            waiting_s += decoded.audio_s
            if waiting_s >= self.scorer.pool_audio_s:
                yield wave
                wave, waiting_s = [], 0.0
        if wave:
            yield wave

    def _score_wave(self, wave: Sequence[DecodedVideo]) -> None:
        self._current = wave[0].video.video_id
        utterances = [s.utterance for video in wave for s in video.segments if s.utterance is not None]
        answers = iter(self.scorer.score(utterances))
        for decoded in wave:
            rows = judge_video(decoded, answers, self.scorer)
            with self._lock:
                self.rows[decoded.video.video_id] = rows
                self._finished.append((time.monotonic(), len(rows)))
                del self._fetched[decoded.video.video_id]
            self.room.leave(decoded.audio_bytes)

    # --- what has been done ---------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Where the chunk stands, for a heartbeat. Safe from any thread."""
        with self._lock:
            took_s = self._finished[-1][0] - self._finished[0][0]
            segments = sum(count for _, count in list(self._finished)[1:])
            return Progress(
                current_video_id=self._current,
                videos_validated=len(self.rows),
                videos_failed=len(self.failures),
                segments=sum(map(len, self.rows.values())),
                segments_per_s=segments / took_s if took_s > 0 else 0.0,
                last_error=self._last_error,
            )

    def own_failures(self) -> list[VideoFailure]:
        """The failures to hold against their videos.

        Where nothing at all could be fetched, the store was away and no video is to blame: transient failures then
        go unnamed, and cost their videos no attempt.
        """
        with self._lock:
            store_answers = bool(self.rows) or any(not failure.transient for failure in self.failures.values())
            return [f for f in self.failures.values() if store_answers or not f.transient]

    def stop(self) -> None:
        """End all fetching; what was fetched and not scored is dropped."""
        self.room.stop()
        with self._lock:
            self._fetched.clear()

    def _is_settled(self, video: Video) -> bool:
        with self._lock:
            return any(video.video_id in kept for kept in (self._fetched, self.rows, self.failures))

    def _fail(self, video: Video, error: str, *, transient: bool) -> None:
        with self._lock:
            self.failures[video.video_id] = VideoFailure(video.video_id, error, transient)
            self._last_error = f"{video.video_id}: {error}"

    def _report(self, group: Sequence[Video]) -> GroupReport:
        with self._lock:
            return GroupReport(
                videos=len(group),
                failed=sum(video.video_id in self.failures for video in group),
                segments=sum(len(self.rows.get(video.video_id, ())) for video in group),
            )


def _cut(videos: Sequence[Video], size: int) -> Iterator[tuple[Video, ...]]:
    for start in range(0, len(videos), size):
        yield tuple(videos[start : start + size])

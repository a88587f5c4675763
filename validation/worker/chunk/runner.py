"""One claimed chunk on its way from videos to shard rows, in the memory of one process."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from validation.domain import ChunkClaim, DecodedVideo, Progress, Seconds, Video, VideoFailure
from validation.errors import BadInput, Permanent, Transient
from validation.models.base import Scorer
from validation.models.rows import Row
from validation.settings import Settings
from validation.worker.chunk.prefetch import PrefetchLimiter, Stopped
from validation.worker.chunk.scoring_jobs import GroupScoringJob

RATE_WINDOW = 10
"""Videos over which the worker's segments per second are averaged."""
POLL_INTERVAL_S: Seconds = 0.5
"""How often a wait for answers looks up: for the lease, for a wish to drain, for videos that are done."""
DRAIN_GRACE_SHARE = 0.5
"""How much of a worker's grace a drain waits for the models; the rest is for writing and committing the shard."""


class FetchFailed(Transient):
    """Our own code failed over one video."""

    def __init__(self, video_id: str, cause: Exception) -> None:
        self.video_id, self.cause = video_id, cause
        super().__init__(f"fetching {video_id} broke: {type(cause).__name__}: {cause}")


class GroupIncomplete(Transient):
    """Some videos of a group could not be fetched now. Those that were are kept: a retry fetches only the rest."""

    def __init__(self, group: int, troubles: Mapping[str, Transient]) -> None:
        self.group, self.troubles = group, troubles
        first, why = next(iter(troubles.items()))
        super().__init__(f"group {group}: {len(troubles)} videos not fetched, {first} because {why}")


@dataclass(frozen=True, slots=True)
class GroupReport:
    """What became of a group, as a task shows it."""

    videos: int
    failed: int
    segments: int


class ChunkRunner:
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
        self.room = PrefetchLimiter(max_videos=settings.look_ahead_videos, max_bytes=settings.look_ahead_bytes)
        self.scorer, self._fetch_video, self._fetchers = scorer, fetch, settings.fetchers
        self._fetched: dict[str, DecodedVideo] = {}
        self._inquiries: dict[int, GroupScoringJob] = {}
        self._drain_patience_s = settings.drain_grace_s * DRAIN_GRACE_SHARE
        self._drain_ends: Seconds | None = None
        self._current: str | None = None
        self._last_error: str | None = None
        self._finished: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=RATE_WINDOW + 1)
        self._lock = threading.Lock()

    # --- fetching -------------------------------------------------------------------------------------------------

    def fetch_group(self, number: int) -> GroupReport:
        """Fetch and decode what the group still lacks, and ask the models about it.

        A video that can never be fetched is recorded as failed and does not count as lacking. A drain fetches nothing.

        Raises:
            GroupIncomplete: some videos could not be fetched now; call again.
            BadInput: the store refuses us; no video is to blame.
        """
        group = self.groups[number]
        lacking = [video for video in group if not self._is_settled(video)]
        with ThreadPoolExecutor(self._fetchers, thread_name_prefix=f"fetch-{number}") as pool:
            troubles = list(pool.map(partial(self._fetch, number), lacking))
        missing = {video.video_id: trouble for video, trouble in zip(lacking, troubles, strict=True) if trouble}
        if missing:
            raise GroupIncomplete(number, missing)
        self._inquire(number)
        return self._report(group)

    def give_up_group(self, number: int, cause: Exception) -> None:
        """Go on without the videos that the group still lacks, once retrying has not helped.

        Raises:
            cause: where it is no fault of theirs.
        """
        if not isinstance(cause, GroupIncomplete):
            raise cause
        for video in self.groups[number]:
            if (trouble := cause.troubles.get(video.video_id)) and not self._is_settled(video):
                self._fail(video, str(trouble), transient=True)

    def _fetch(self, number: int, video: Video) -> Transient | None:
        try:
            self.room.enter(number)
        except Stopped:
            return None
        try:
            decoded = None if self.draining() else self._fetch_video(video)
        except Permanent as error:
            self.room.leave(0)
            self._fail(video, str(error), transient=False)
            return None
        except BaseException as error:
            self.room.leave(0)
            if isinstance(error, BadInput) or not isinstance(error, Exception):
                raise
            return error if isinstance(error, Transient) else FetchFailed(video.video_id, error)
        if decoded is None:
            self.room.leave(0)
            return None
        self.room.fill(decoded.audio_bytes)
        with self._lock:
            self._fetched[video.video_id] = decoded
        return None

    # --- scoring --------------------------------------------------------------------------------------------------

    def score_group(self, number: int, *, check: Callable[[], None]) -> GroupReport:
        """Wait for the models' answers about the group's videos, and keep the rows that come of them.

        A drain waits for the group that is waited for when it comes, within ``drain_patience_s``, and for no other.

        Args:
            number: which group.
            check: called twice a second; raises if the chunk is not ours any more.

        Raises:
            Transient: the models could not answer; call again. Videos already scored are kept.
        """
        inquiry = self._inquire(number)
        is_over, waited_for = False, None
        try:
            while inquiry is not None and not is_over:
                check()
                if self.draining():
                    self._wind_up(waited_for)
                self._current, waited_for = inquiry.current, inquiry
                is_over = inquiry.wait(POLL_INTERVAL_S)
                self._keep_answered(inquiry)
        finally:
            with self._lock:
                self._inquiries.pop(number, None)
            if inquiry is not None:
                inquiry.cancel()
        return self._report(self.groups[number])

    def _inquire(self, number: int) -> GroupScoringJob | None:
        """Ask about the group's videos that have no rows yet, unless they have been asked about; None in a drain.

        Done as soon as a group is fetched: the models then have the next one before them too, and fill their batches
        from both.
        """
        with self._lock:
            if number not in self._inquiries and not self.draining():
                videos = [fetched for v in self.groups[number] if (fetched := self._fetched.get(v.video_id))]
                self._inquiries[number] = GroupScoringJob(videos, self.scorer)
            return self._inquiries.get(number)

    def _wind_up(self, waited_for: GroupScoringJob | None) -> None:
        """Have the models finish what is waited for, and nothing else; nor that, when time is over."""
        with self._lock:
            if self._drain_ends is None:
                self._drain_ends = time.monotonic() + self._drain_patience_s
            kept = waited_for if time.monotonic() < self._drain_ends else None
            for inquiry in self._inquiries.values():
                if inquiry is not kept:
                    inquiry.cancel()

    def _keep_answered(self, inquiry: GroupScoringJob) -> None:
        for decoded, rows in inquiry.take_answered():
            with self._lock:
                self.rows[decoded.video.video_id] = rows
                self._finished.append((time.monotonic(), len(rows)))
                self._fetched.pop(decoded.video.video_id, None)
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
        """End all fetching; what was fetched or asked about and has no rows is dropped."""
        self.room.stop()
        with self._lock:
            self._fetched.clear()
            for inquiry in self._inquiries.values():
                inquiry.cancel()

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

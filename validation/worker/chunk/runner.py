"""Process one claimed chunk in memory: fetch its videos in groups, score them, collect the rows of its shard."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from validation.domain import Answer, ChunkClaim, DecodedVideo, Progress, Seconds, Utterance, Video, VideoFailure
from validation.errors import BadInput, FleetError, Transient
from validation.models.scorer import Row, Scorer, build_rows
from validation.settings import Settings
from validation.worker.chunk.errors import VIDEO_ERRORS, SourceMismatch, find_common_failure, make_video_failure
from validation.worker.chunk.prefetch import ChunkStopped, PrefetchLimiter

RATE_WINDOW = 10
"""The reported segments per second are the average over this many videos of the chunk that were scored last."""
POLL_INTERVAL_S: Seconds = 0.5
"""Period at which the wait for answers checks the lease, the request to drain, and which videos are complete."""
DRAIN_GRACE_SHARE = 0.5
"""Share of a worker's grace for which a drain waits for the models. The rest is left for writing and committing."""

log = logging.getLogger(__name__)


class ChunkLog(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry the ids of a chunk beside the fields of each call, for a log system to index."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the ids to the fields of a record."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **kwargs.get("extra", {})}}


class UnexpectedError(Transient):
    """A video could not be fetched, or its rows could not be built, because of an unexpected error in this program."""

    def __init__(self, video_id: str, cause: Exception) -> None:
        self.video_id, self.cause = video_id, cause
        super().__init__(f"video {video_id} failed: {type(cause).__name__}: {cause}")


class GroupIncomplete(Transient):
    """Some videos of a group could not be fetched now. The others are kept: a retry fetches only the missing ones."""

    def __init__(self, group: int, errors: Mapping[str, FleetError]) -> None:
        self.group, self.errors = group, errors
        video_id, error = next(iter(errors.items()))
        super().__init__(f"group {group}: {len(errors)} videos not fetched; {video_id}: {error}")


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The counts of a group. A Prefect task shows them as its result."""

    videos: int
    failed: int
    """The number of failed videos."""
    segments: int
    """The number of segments whose rows are kept."""


class ChunkRunner:
    """Fetches the groups of a chunk ahead of scoring, scores them in order, and keeps the rows for the shard.

    Fetching and scoring may run in different threads. Each group is fetched by one thread and scored by one thread.

    Args:
        claim: the chunk.
        fetch: downloads and decodes one video.
        scorer: the models.
        settings: group size, fetchers, prefetch limits and grace.
        draining: returns whether the worker drains.
        flow_run_id: a field of every log record.
    """

    def __init__(
        self,
        claim: ChunkClaim,
        *,
        fetch: Callable[[Video], DecodedVideo],
        scorer: Scorer,
        settings: Settings,
        draining: Callable[[], bool],
        flow_run_id: object = None,
    ) -> None:
        self.claim = claim
        self.groups: tuple[tuple[Video, ...], ...] = tuple(_split(claim.videos, settings.group_videos))
        self.rows: dict[str, list[Row]] = {}
        """The rows of each scored video, by video id."""
        self.failures: dict[str, VideoFailure] = {}
        """The failure of each failed video, by video id."""
        self.draining = draining
        self.prefetch = PrefetchLimiter(max_videos=settings.look_ahead_videos, max_bytes=settings.look_ahead_bytes)
        self.scorer, self._fetch_video, self._fetchers = scorer, fetch, settings.fetchers
        ids = {"chunk_id": str(claim.chunk_id), "worker_id": claim.worker_id, "flow_run_id": str(flow_run_id or "")}
        self.log = ChunkLog(log, ids)
        self._errors: dict[str, Exception] = {}
        self._fetched: dict[str, DecodedVideo] = {}
        """Decoded videos that are not scored yet, by video id."""
        self._jobs: dict[int, GroupScoringJob] = {}
        self._drain_timeout_s = settings.drain_grace_s * DRAIN_GRACE_SHARE
        self._drain_ends: Seconds | None = None
        """End of the time for which a drain waits for the models (monotonic clock); None without a drain."""
        self._current_video_id: str | None = None
        self._last_error: str | None = None
        self._finished: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=RATE_WINDOW + 1)
        self._lock = threading.Lock()

    # --- fetching -------------------------------------------------------------------------------------------------

    def fetch_group(self, number: int) -> GroupReport:
        """Fetch and decode the missing videos of a group, and submit the group to the models.

        A video that can never be fetched is recorded as failed, and is not missing any more. In a drain nothing is
        fetched.

        Raises:
            GroupIncomplete: some videos could not be fetched now; call again.
            BadInput: the store refuses this worker, and no video of the chunk was fetched yet.
        """
        started_at, group = time.monotonic(), self.groups[number]
        missing = [video for video in group if not self._is_done(video)]
        with ThreadPoolExecutor(self._fetchers, thread_name_prefix=f"fetch-{number}") as pool:
            results = list(pool.map(partial(self._fetch, number), missing))
        errors = {video.video_id: error for video, error in zip(missing, results, strict=True) if error}
        if errors:
            self._raise_if_refused(errors)
            raise GroupIncomplete(number, errors)
        self._submit(number)
        report = self._make_report(group)
        self._log_group("group_fetched", "fetched", number, report, started_at)
        return report

    def fail_missing(self, number: int, cause: Exception) -> None:
        """Record the missing videos that ``cause`` names as failed, after retries have failed. They lose no attempt.

        Raises:
            cause: the error is not a ``GroupIncomplete``, so it is not about single videos.
        """
        if not isinstance(cause, GroupIncomplete):
            raise cause
        for video in self.groups[number]:
            if (error := cause.errors.get(video.video_id)) and not self._is_done(video):
                self._fail(video, error)

    def _raise_if_refused(self, errors: Mapping[str, FleetError]) -> None:
        """Raise the first ``BadInput`` of the errors, unless a video of the chunk was fetched before."""
        with self._lock:
            has_fetched = bool(self._fetched or self.rows)
        refusal = next((error for error in errors.values() if isinstance(error, BadInput)), None)
        if refusal is not None and not has_fetched:
            raise refusal

    def _fetch(self, number: int, video: Video) -> FleetError | None:
        """Fetch a video of a group; return the error if another try may succeed, None if none is needed."""
        try:
            self.prefetch.acquire(number)
        except ChunkStopped:
            return None
        try:
            decoded = None if self.draining() else self._fetch_video(video)
        except VIDEO_ERRORS as error:
            self.prefetch.release(0)
            self._fail(video, error)
            return None
        except Exception as error:  # noqa: BLE001 - any other error is not about the video, and is returned
            self.prefetch.release(0)
            return error if isinstance(error, FleetError) else UnexpectedError(video.video_id, error)
        except BaseException:
            self.prefetch.release(0)
            raise
        if decoded is None:
            self.prefetch.release(0)
            return None
        self.prefetch.add_bytes(decoded.audio_bytes)
        with self._lock:
            self._fetched[video.video_id] = decoded
        return None

    # --- scoring --------------------------------------------------------------------------------------------------

    def score_group(self, number: int, *, ensure_held: Callable[[], None]) -> GroupReport:
        """Wait for the answers to a group's segments, and keep the rows built from them.

        If this call waits for the group when a drain begins, it waits on, at most ``DRAIN_GRACE_SHARE`` of the grace.
        Every other group is cancelled.

        Args:
            number: index of the group.
            ensure_held: raises if the lease is lost; called every ``POLL_INTERVAL_S``.

        Raises:
            Transient: the models could not answer; call again. The rows of complete videos are kept.
            ClaimLost: ``ensure_held`` raised it.
        """
        started_at = time.monotonic()
        job = self._submit(number)
        is_over, waited_for = False, None
        try:
            while job is not None and not is_over:
                ensure_held()
                if self.draining():
                    self._drain(waited_for)
                self._current_video_id, waited_for = job.current_video_id, job
                is_over = job.wait(POLL_INTERVAL_S)
                self._collect_finished(job)
        finally:
            with self._lock:
                self._jobs.pop(number, None)
            if job is not None:
                job.cancel()
        report = self._make_report(self.groups[number])
        self._log_group("group_scored", "scored", number, report, started_at)
        return report

    def _submit(self, number: int) -> "GroupScoringJob | None":
        """Submit the fetched videos of a group, unless the group was submitted; return its job, None in a drain.

        Called as soon as a group is fetched, so that the models fill their batches from this group and the next.
        """
        with self._lock:
            if number not in self._jobs and not self.draining():
                videos = [fetched for v in self.groups[number] if (fetched := self._fetched.get(v.video_id))]
                self._jobs[number] = GroupScoringJob(videos, self.scorer)
            return self._jobs.get(number)

    def _drain(self, waited_for: "GroupScoringJob | None") -> None:
        """Cancel every job except the one that is waited for; cancel that job too when the drain's time is over."""
        with self._lock:
            if self._drain_ends is None:
                self._drain_ends = time.monotonic() + self._drain_timeout_s
            kept = waited_for if time.monotonic() < self._drain_ends else None
            for job in self._jobs.values():
                if job is not kept:
                    job.cancel()

    def _collect_finished(self, job: "GroupScoringJob") -> None:
        """Build and keep the rows of the videos that a job has completed, and free their places."""
        for decoded, answers in job.pop_finished():
            try:
                rows = build_rows(decoded, iter(answers), self.scorer)
            except Exception as error:  # noqa: BLE001 - it fails this video only, without an attempt
                self._fail(decoded.video, UnexpectedError(decoded.video.video_id, error))
            else:
                with self._lock:
                    self.rows[decoded.video.video_id] = rows
                    self._finished.append((time.monotonic(), len(rows)))
            with self._lock:
                self._fetched.pop(decoded.video.video_id, None)
            self.prefetch.release(decoded.audio_bytes)

    # --- results --------------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Return the progress of the chunk, which each renewal of the lease reports. Safe from any thread."""
        with self._lock:
            took_s = self._finished[-1][0] - self._finished[0][0]
            segments = sum(count for _, count in list(self._finished)[1:])
            return Progress(
                current_video_id=self._current_video_id,
                videos_validated=len(self.rows),
                videos_failed=len(self.failures),
                segments=sum(map(len, self.rows.values())),
                segments_per_s=segments / took_s if took_s > 0 else 0.0,
                last_error=self._last_error,
            )

    def failures_to_commit(self, *, source_is_sound: Callable[[], bool] = lambda: False) -> list[VideoFailure]:
        """Return the failures to record in the queue. Uncharged ones are recorded with a back-off, and cost no attempt.

        If no video of the chunk was scored and no failure is charged, the uncharged failures are left out: a service
        was down, and these videos return to the queue unchanged.

        Args:
            source_is_sound: a function that returns whether an earlier validated video can be read. It is called if all
                videos fail alike. If it returns True, the failures are those of the videos.

        Raises:
            SourceMismatch: two or more videos, all of the chunk, fail for the same reason, and ``source_is_sound``
                returns False. No video is charged.
        """
        with self._lock:
            failures, errors = list(self.failures.values()), list(self._errors.values())
        is_whole_chunk = len(errors) == len(self.claim.videos) > 1
        if is_whole_chunk and find_common_failure(errors) and not source_is_sound():
            raise SourceMismatch(self.claim.chunk_id, len(failures), failures[0].error)
        with self._lock:
            store_answers = bool(self.rows) or any(failure.charged for failure in failures)
            return [failure for failure in failures if store_answers or failure.charged]

    def stop(self) -> None:
        """Stop fetching and cancel scoring. Videos without rows are dropped."""
        self.prefetch.stop()
        with self._lock:
            self._fetched.clear()
            for job in self._jobs.values():
                job.cancel()

    def _is_done(self, video: Video) -> bool:
        """Return whether a video was fetched, scored or recorded as failed."""
        with self._lock:
            return any(video.video_id in done for done in (self._fetched, self.rows, self.failures))

    def _fail(self, video: Video, error: Exception) -> None:
        """Record a video as failed."""
        failure = make_video_failure(video.video_id, error)
        with self._lock:
            self.failures[video.video_id] = failure
            self._last_error = f"{video.video_id}: {failure.error}"
            self._errors[video.video_id] = error

    def _make_report(self, group: Sequence[Video]) -> GroupReport:
        """Count the failed videos and the segments of a group."""
        with self._lock:
            return GroupReport(
                videos=len(group),
                failed=sum(video.video_id in self.failures for video in group),
                segments=sum(len(self.rows.get(video.video_id, ())) for video in group),
            )

    def _log_group(self, event: str, verb: str, number: int, report: GroupReport, started_at: Seconds) -> None:
        duration_s = time.monotonic() - started_at
        fields = {
            "event": event, "group": number, "groups": len(self.groups), "videos": report.videos,
            "videos_failed": report.failed, "segments": report.segments, "duration_s": round(duration_s, 3),
        }  # fmt: skip
        self.log.info(
            "%s group %d of %d in %.1f s: %d videos, %d failed, %d segments scored",
            *(verb, number + 1, len(self.groups), duration_s, report.videos, report.failed, report.segments),
            extra=fields,
        )


class GroupScoringJob:
    """The scoring job of one group of videos."""

    def __init__(self, videos: Sequence[DecodedVideo], scorer: Scorer) -> None:
        self._open: list[tuple[DecodedVideo, slice]] = []
        utterances: list[Utterance] = []
        for video in videos:
            start, known = len(utterances), scorer.roles.known_languages
            utterances += filter(None, (segment.utterance_for(known) for segment in video.segments))
            self._open.append((video, slice(start, len(utterances))))
        self._job = scorer.begin(utterances)

    @property
    def current_video_id(self) -> str | None:
        """The id of the first video that lacks an answer; None if no video is left."""
        return self._open[0][0].video.video_id if self._open else None

    def wait(self, timeout_s: Seconds) -> bool:
        """Wait at most ``timeout_s`` for the end of the job; return whether it has ended.

        Raises:
            Transient: the models could not answer. Videos that ``pop_finished`` has not yielded may be submitted again.
        """
        return self._job.wait(timeout_s)

    def pop_finished(self) -> Iterator[tuple[DecodedVideo, list[Mapping[str, Answer]]]]:
        """Yield each video whose segments are all answered, with the answers; yield no video in a later call again."""
        answers = self._job.answers()
        for video, own in list(self._open):
            known = [answer for answer in answers[own] if answer is not None]
            if len(known) == own.stop - own.start:
                self._open.remove((video, own))
                yield video, known

    def cancel(self) -> None:
        """Cancel the scoring of the segments that have no answer."""
        self._job.cancel()


def _split(videos: Sequence[Video], size: int) -> Iterator[tuple[Video, ...]]:
    """Split videos into groups of ``size``; the last group may be smaller."""
    for start in range(0, len(videos), size):
        yield tuple(videos[start : start + size])

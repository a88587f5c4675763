"""The chunk runner in memory: when groups are submitted, what a drain keeps, and which errors fail a video."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.worker_fixtures import PeakScorer, pack_tone
from validation.corpus.fetch import fetch_video
from validation.domain import ChunkClaim, Scored, Video
from validation.errors import Unreachable
from validation.storage.errors import StoreRefused
from validation.storage.store import put_if_absent
from validation.worker.chunk.runner import ChunkRunner, GroupIncomplete


@dataclass
class ScriptedScorer(PeakScorer):
    """A scorer whose jobs are answered when the test says so."""

    jobs: list = field(default_factory=list)

    def begin(self, utterances):
        self.jobs.append(ScriptedJob(list(utterances)))
        return self.jobs[-1]


class ScriptedJob:
    """The utterances of one job, their answers so far, and whether the job was cancelled."""

    def __init__(self, utterances):
        self.utterances, self.returned = utterances, [None] * len(utterances)
        self.is_cancelled, self._changed = False, threading.Condition()

    def answer(self, count):
        """Answer the first ``count`` utterances."""
        with self._changed:
            for n in range(count):
                self.returned[n] = {"ear": Scored({"peak": float(np.abs(self.utterances[n].audio).max())})}
            self._changed.notify_all()

    def wait(self, timeout_s=None):
        with self._changed:
            return self._changed.wait_for(lambda: self.is_cancelled or None not in self.returned, timeout_s)

    def answers(self):
        return self.returned

    def cancel(self):
        with self._changed:
            self.is_cancelled = True
            self._changed.notify_all()


@pytest.fixture
def make_runner(box):
    """Make a runner for videos of two segments each, in groups of three videos."""

    def make(names, *, draining=lambda: False, fetch=None, **settings):
        videos = [Video(name, "hi", 2) for name in names]
        for video in videos:
            put_if_absent(box.context.source, f"{video.video_id}.tar", pack_tone(video, 2))
        return ChunkRunner(
            ChunkClaim(chunk_id="c", worker_id="ann", shard_number=1, videos=tuple(videos), lease_s=90),
            fetch=fetch or (lambda video: fetch_video(box.context.source, f"{video.video_id}.tar", video)),
            scorer=ScriptedScorer(),
            settings=box.context.settings.model_copy(update=settings),
            draining=draining,
        )

    return make


def test_fetched_group_is_submitted_while_an_earlier_one_is_scored(make_runner):
    """A group is submitted as soon as it is fetched, so batches are filled from several groups."""
    runner = make_runner("abcdef")
    runner.fetch_group(0)
    runner.fetch_group(1)
    first, second = runner.scorer.jobs
    second.answer(6)
    first.answer(6)
    assert runner.score_group(0, ensure_held=lambda: None).segments == 6
    assert runner.score_group(1, ensure_held=lambda: None).segments == 6
    assert sorted(runner.rows) == list("abcdef")


def test_rows_of_a_video_are_kept_once_its_last_segment_is_answered(make_runner):
    """A chunk that is stopped keeps the completed videos of an incomplete group."""
    runner, seen = make_runner("abc"), []
    runner.fetch_group(0)
    runner.scorer.jobs[0].answer(5)

    def stop():
        seen.append(sorted(runner.rows))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.score_group(0, ensure_held=stop)
    assert seen[-1] == ["a", "b"]
    assert runner.scorer.jobs[0].is_cancelled


def test_drain_fetches_nothing_and_cancels_later_groups(make_runner):
    """A drain waits for the group in work only; of later groups it keeps the answered videos and cancels the rest."""
    checks, drains = [], []
    runner = make_runner("abcdefghi", draining=lambda: bool(drains))
    runner.fetch_group(0)
    runner.fetch_group(1)
    first, second = runner.scorer.jobs
    second.answer(3)

    def check():
        checks.append(second.is_cancelled)
        if len(checks) == 2:
            drains.append("drain")
        if second.is_cancelled:
            first.answer(6)

    runner.score_group(0, ensure_held=check)
    assert checks[-1]
    assert runner.fetch_group(2).segments == 0
    for number in (1, 2):
        runner.score_group(number, ensure_held=lambda: None)
    assert sorted(runner.rows) == list("abcd")
    assert runner.failures == {}
    assert len(runner.scorer.jobs) == 2


def test_drain_stops_waiting_after_its_share_of_the_grace_time(make_runner):
    """When its share is over, a drain keeps the answered videos; the rest of the grace time is for write and commit."""
    runner = make_runner("abc", draining=lambda: bool(runner.scorer.jobs), drain_grace_s=0)
    runner.fetch_group(0)
    runner.scorer.jobs[0].answer(2)
    runner.score_group(0, ensure_held=lambda: None)
    assert list(runner.rows) == ["a"]


def test_decoded_audio_is_freed_once_a_group_is_scored(make_runner):
    """The runner keeps no audio and no job of a scored group: an hour of audio is a quarter of a gigabyte."""
    runner = make_runner("abc")
    runner.fetch_group(0)
    runner.scorer.jobs[0].answer(6)
    runner.score_group(0, ensure_held=lambda: None)
    assert (runner._fetched, runner._jobs) == ({}, {})


def test_store_refusal_ends_the_run_and_fails_no_video(make_runner):
    """Wrong keys end the run with the store's error, and no video fails for it."""

    def refuse(video):
        raise StoreRefused("s3://source", "403", "give it a key that may read")

    runner = make_runner("abc", fetch=refuse)
    with pytest.raises(StoreRefused) as refused:
        runner.fetch_group(0)
    with pytest.raises(StoreRefused):
        runner.fail_missing(0, refused.value)
    assert runner.failures == {}


def test_each_missing_video_fails_with_its_own_error(make_runner, box):
    """The videos that could not be fetched are given up, each with its own error and without an attempt."""

    def fetch(video):
        if video.video_id == "a":
            raise ZeroDivisionError("ours")
        if video.video_id == "b":
            raise Unreachable("the store", "s3://b", "check it", "timed out")
        return fetch_video(box.context.source, f"{video.video_id}.tar", video)

    runner = make_runner("abc", fetch=fetch)
    with pytest.raises(GroupIncomplete) as incomplete:
        runner.fetch_group(0)
    runner.fail_missing(0, incomplete.value)
    assert {name: failure.transient for name, failure in runner.failures.items()} == {"a": True, "b": True}
    assert "video a failed: ZeroDivisionError: ours" in runner.failures["a"].error
    assert "timed out" in runner.failures["b"].error

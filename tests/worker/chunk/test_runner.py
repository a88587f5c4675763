"""One chunk in the memory of one process: what the models have before them, and when it gives up."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.worker_fixtures import PeakScorer, pack_tone
from validation.corpus.fetch import fetch_video
from validation.domain import ChunkClaim, Scored, Video
from validation.errors import Unreachable
from validation.storage.errors import StoreRefused
from validation.storage.store import put_once
from validation.worker.chunk.runner import ChunkRunner, GroupIncomplete


@dataclass
class SlowEars(PeakScorer):
    """Answers each segment when the test says so, and knows what it was asked and what is not wanted any more."""

    begun: list = field(default_factory=list)

    def begin(self, utterances):
        self.begun.append(Heard(list(utterances)))
        return self.begun[-1]


class Heard:
    def __init__(self, utterances):
        self.utterances, self.said = utterances, [None] * len(utterances)
        self.is_cancelled, self._changed = False, threading.Condition()

    def answer(self, count):
        """Answer the first of them."""
        with self._changed:
            for n in range(count):
                self.said[n] = {"ear": Scored({"peak": float(np.abs(self.utterances[n].audio).max())})}
            self._changed.notify_all()

    def wait(self, timeout_s=None):
        with self._changed:
            return self._changed.wait_for(lambda: self.is_cancelled or None not in self.said, timeout_s)

    def answers(self):
        return self.said

    def cancel(self):
        with self._changed:
            self.is_cancelled = True
            self._changed.notify_all()


@pytest.fixture
def make_runner(box):
    """Makes the work on videos of two segments each, in groups of three."""

    def make(names, *, draining=lambda: False, fetch=None, **settings):
        videos = [Video(name, "hi", 2) for name in names]
        for video in videos:
            put_once(box.context.source, f"{video.video_id}.tar", pack_tone(video, 2))
        return ChunkRunner(
            ChunkClaim(chunk_id="c", worker_id="ann", shard_number=1, videos=tuple(videos), lease_s=90),
            fetch=fetch or (lambda video: fetch_video(box.context.source, f"{video.video_id}.tar", video)),
            scorer=SlowEars(),
            settings=box.context.settings.model_copy(update=settings),
            draining=draining,
        )

    return make


def test_the_models_have_the_next_group_before_them_too(make_runner):
    """A group is asked about as soon as it is fetched, while an earlier one is still being scored: no batch waits for a
    group's end to be full."""
    runner = make_runner("abcdef")
    runner.fetch_group(0)
    runner.fetch_group(1)
    first, second = runner.scorer.begun
    second.answer(6)
    first.answer(6)
    assert runner.score_group(0, ensure_held=lambda: None).segments == 6
    assert runner.score_group(1, ensure_held=lambda: None).segments == 6
    assert sorted(runner.rows) == list("abcdef")


def test_a_video_is_kept_when_its_last_segment_is_answered(make_runner):
    """A chunk that is stopped keeps what was done: rows come by video, not by group."""
    runner, seen = make_runner("abc"), []
    runner.fetch_group(0)
    runner.scorer.begun[0].answer(5)

    def stop():
        seen.append(sorted(runner.rows))
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.score_group(0, ensure_held=stop)
    assert seen[-1] == ["a", "b"]
    assert runner.scorer.begun[0].is_cancelled


def test_a_drain_fetches_nothing_and_does_without_what_is_not_waited_for(make_runner):
    """The models are left with the group in hand alone, so that it ends soon; of others what is answered is kept."""
    checks, wishes = [], []
    runner = make_runner("abcdefghi", draining=lambda: bool(wishes))
    runner.fetch_group(0)
    runner.fetch_group(1)
    first, second = runner.scorer.begun
    second.answer(3)

    def check():
        checks.append(second.is_cancelled)
        if len(checks) == 2:
            wishes.append("drain")
        if second.is_cancelled:
            first.answer(6)

    runner.score_group(0, ensure_held=check)
    assert checks[-1]
    assert runner.fetch_group(2).segments == 0
    for number in (1, 2):
        runner.score_group(number, ensure_held=lambda: None)
    assert sorted(runner.rows) == list("abcd")
    assert runner.failures == {}
    assert len(runner.scorer.begun) == 2


def test_a_drain_does_not_wait_for_models_that_do_not_answer(make_runner):
    """Past its share of the grace it keeps what is answered: the rest of the grace is for writing and committing it."""
    runner = make_runner("abc", draining=lambda: bool(runner.scorer.begun), drain_grace_s=0)
    runner.fetch_group(0)
    runner.scorer.begun[0].answer(2)
    runner.score_group(0, ensure_held=lambda: None)
    assert list(runner.rows) == ["a"]


def test_what_was_scored_is_held_no_longer(make_runner):
    """An hour of decoded audio is a quarter of a gigabyte: it goes as soon as its rows are there."""
    runner = make_runner("abc")
    runner.fetch_group(0)
    runner.scorer.begun[0].answer(6)
    runner.score_group(0, ensure_held=lambda: None)
    assert (runner._fetched, runner._jobs) == ({}, {})


def test_a_store_that_refuses_us_is_no_videos_fault(make_runner):
    """Wrong keys end the run with the store's sentence, and no video fails for it."""

    def refuse(video):
        raise StoreRefused("s3://source", "403", "give it a key that may read")

    runner = make_runner("abc", fetch=refuse)
    with pytest.raises(StoreRefused) as refused:
        runner.fetch_group(0)
    with pytest.raises(StoreRefused):
        runner.fail_missing(0, refused.value)
    assert runner.failures == {}


def test_a_fault_of_ours_over_one_video_costs_the_others_nothing(make_runner, box):
    """Each video that is given up is told its own reason."""

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

"""The corpus of a chaos run: endless, repeatable, and broken where it says so."""

import pytest

from simulation.chaos.corpus import BREAK_EVERY, POISON, ChaosCorpus
from validation.corpus.fetch import fetch_video
from validation.errors import Permanent
from validation.settings import Settings
from validation.storage.store import open_store, put_once


def test_equal_seeds_make_equal_videos():
    """Whether they are made at once or as they are needed."""
    once, often = ChaosCorpus(3), ChaosCorpus(3)
    assert once.make(20) == often.make(5) + often.make(15)
    assert once.videos == often.videos


def test_one_video_is_poison_and_one_in_so_many_is_broken():
    """A run always has all of them."""
    made = ChaosCorpus(3).make(10 * BREAK_EVERY)
    assert [video.queued.video_id for video in made if video.queued.video_id == POISON] == [POISON]
    assert len([video for video in made if video.error and video.queued.video_id != POISON]) == 9
    assert len({video.error for video in made}) == 4  # sound, poison, missing, cut


def test_sound_videos_decode_and_broken_ones_fail_as_they_say():
    """What the run expects of the fleet is what the fleet's own reader finds."""
    store = open_store("memory://", Settings())
    for video in ChaosCorpus(4).make(4 * BREAK_EVERY):
        if video.tar is not None:
            put_once(store, video.queued.video_id, video.tar)
        if video.error is None or video.queued.video_id == POISON:
            assert len(fetch_video(store, video.queued.video_id, video.queued).segments) == video.segments
        else:
            with pytest.raises(Permanent, match=video.error):
                fetch_video(store, video.queued.video_id, video.queued)

"""The corpus of a chaos run: endless, repeatable, with faults as described."""

import pytest

from simulation.chaos.checks import find_failure
from simulation.chaos.corpus import BROKEN_EVERY, POISON, ChaosCorpus, ProcessKilled
from validation.corpus.fetch import fetch_layout, fetch_video
from validation.corpus.tar import TarCorrupt
from validation.settings import Settings
from validation.storage.errors import ObjectMissing, describe_store_address
from validation.storage.store import open_store, put_if_absent


def test_equal_seeds_make_equal_videos():
    """Videos depend on the seed only, not on how many are made per call."""
    once, often = ChaosCorpus(3), ChaosCorpus(3)
    assert once.make(20) == often.make(5) + often.make(15)
    assert once.videos == often.videos


def test_corpus_has_one_poison_and_one_broken_video_in_15():
    """A long enough run has every kind of broken video."""
    made = ChaosCorpus(3).make(10 * BROKEN_EVERY)
    assert [video.queued.video_id for video in made if video.queued.video_id == POISON] == [POISON]
    assert len([video for video in made if video.error and video.queued.video_id != POISON]) == 9
    assert len({video.error for video in made}) == 4  # sound, poison, missing, cut


def test_sound_videos_decode_and_broken_ones_fail_as_they_say():
    """The expected outcome of each video is what the corpus reader finds."""
    store = open_store("memory://", Settings())
    for video in ChaosCorpus(4).make(4 * BROKEN_EVERY):
        if video.tar is not None:
            put_if_absent(store, video.queued.video_id, video.tar)
        if video.error is None or video.queued.video_id == POISON:
            assert len(fetch_video(store, video.queued.video_id, video.queued).segments) == video.segments
        else:
            with pytest.raises(video.error):
                fetch_video(store, video.queued.video_id, video.queued)


def test_kind_of_a_failure_is_told_from_the_object_and_the_ledger():
    """Rewording an error changes no outcome, and a video that failed for another reason than its own is found."""
    store = open_store("memory://", Settings())
    made = {video.error: video for video in ChaosCorpus(4).make(4 * BROKEN_EVERY)}
    for kind in (TarCorrupt, ObjectMissing, ProcessKilled):
        video, key = made[kind], f"{made[kind].queued.video_id}.tar"
        if video.tar is not None:
            put_if_absent(store, key, video.tar)
        row = {"video_id": video.queued.video_id, "validation_crashes": 3, "validation_error": "poison"}
        if kind is not ProcessKilled:
            assert find_failure(store, row) is None
            with pytest.raises(kind) as caught:
                fetch_layout(store, key)
            by_worker = str(caught.value).replace(describe_store_address(store), "s3://transcribed at http://proxy")
            row |= {"validation_error": f"refused: {by_worker}", "validation_crashes": 0}
        assert find_failure(store, row) is kind

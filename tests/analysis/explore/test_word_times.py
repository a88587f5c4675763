"""Estimated times of words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.analysis.explore.word_times import estimate_word_times


@given(st.lists(st.text("abcह", min_size=1, max_size=9), max_size=20), st.floats(0, 3), st.floats(0, 3))
def test_words_fill_the_spoken_time_in_order(words, lead, tail):
    """The first word begins where speech begins, each other where its neighbour ends, and the last ends with speech."""
    row = {"text": " ".join(words), "silero_lead_s": lead, "silero_tail_s": tail}
    times = estimate_word_times(row, 10.0)
    assert [each.word for each in times] == words
    edges = [each for time in times for each in (time.start, time.end)]
    assert edges == sorted(edges)
    if words:
        assert (edges[0], edges[-1]) == (pytest.approx(lead), pytest.approx(10.0 - tail))


def test_longer_words_last_longer_and_unknown_edges_are_the_ends():
    """Without measured edges, or with edges that leave no time, the words fill the whole segment."""
    for edges in ({}, {"silero_lead_s": None, "silero_tail_s": 0.1}, {"silero_lead_s": 1.5, "silero_tail_s": 0.5}):
        first, second = estimate_word_times({"text": "a abcde", **edges}, 2.0)
        assert (first.start, first.end, second.end) == pytest.approx((0.0, 0.5, 2.0))


def test_the_recogniser_is_preferred_to_the_speech_detector():
    """The alignment of the transcript knows where its first token lies; noise may be taken for speech."""
    row = {"text": "a", "conformer_first_token_s": 0.5, "conformer_last_token_s": 0.25, "silero_lead_s": 0.0,
           "silero_tail_s": 0.0}  # fmt: skip
    ((_, start, end),) = estimate_word_times(row, 2.0)
    assert (start, end) == (0.5, 1.75)

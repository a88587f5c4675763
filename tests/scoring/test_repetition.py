"""Texts that repeat themselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.repetition import compression_ratio, find_repetition

WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8)


@given(WORDS, st.integers(2, 4))
def test_a_text_that_was_stored_n_times_repeats_all_but_the_first(words, times):
    """Its share is at least (n - 1) / n: the words may repeat themselves besides."""
    letters = len("".join(words))
    found = find_repetition(" ".join(words * times), "en")
    assert found.letters >= letters * (times - 1)
    assert found.fraction == pytest.approx(found.letters / (letters * times))


@given(st.lists(st.sampled_from("abcdefghij"), unique=True, min_size=1))
def test_different_words_repeat_nothing(words):
    """A text without a word twice has no repetition."""
    assert find_repetition(" ".join(words), "en").letters == 0


@pytest.mark.parametrize(
    ("text", "language", "letters"),
    [
        ("Hello world", "en", 0),
        ("dheere dheere chalo", "en", 6),
        ("bye, bye, bye", "en", 6),
        ("one two one three", "en", 0),
        ("你好你好", "zh", 2),
        ("नमस्ते नमस्ते", "hi", 6),
    ],
)
def test_only_what_directly_follows_itself_is_a_repetition(text, language, letters):
    """A word that comes back later is none; a language without spaces is compared by character."""
    assert find_repetition(text, language).letters == letters


def test_a_text_without_words_has_no_repetition():
    """Unknown, not zero."""
    assert find_repetition("...", "en") is None


def test_a_loop_compresses_well_and_a_sentence_does_not():
    """Whisper's limit for a failed decoding lies between them."""
    assert compression_ratio("thank you " * 20) > 2.4 > compression_ratio("he was not an ill disposed young man")
    assert compression_ratio("") is None

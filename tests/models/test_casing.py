import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.models.whisper.tokenizer import join_words, split_words, transfer_casing
from validation.scoring.text import normalise_text

WORDS = st.lists(st.sampled_from(["one", "two", "Two", "three,", "—", "चार", "..."]), max_size=8).map(" ".join)
TEXTS = st.one_of(WORDS, st.text(max_size=30))


@pytest.mark.parametrize(
    ("transcript", "heard", "spelt"),
    [
        ("and mister dashwood had", "And Mr. Dashwood had.", "And mister Dashwood had."),
        ("Bonjour le monde.", "Bonjour, le monde.", "Bonjour, le monde."),
        ("he was not ill", "", "he was not ill"),
        ("one two", "Something else entirely.", "one two"),
    ],
)
def test_recognised_words_take_the_recognised_casing(transcript, heard, spelt):
    """Case and punctuation come from the recogniser, words from the transcript."""
    assert transfer_casing(transcript, heard, spaced=True) == spelt


def test_without_spaces_characters_are_compared():
    """Japanese and Chinese are compared by character."""
    assert transfer_casing("一二三。四", "一二、三四", spaced=False) == "一二、三四"


@given(TEXTS, TEXTS)
def test_transferred_casing_changes_no_word(transcript, heard):
    """All letters and numbers of the transcript remain, and no others are added."""
    assert normalise_text(transfer_casing(transcript, heard, spaced=True)) == normalise_text(transcript)


@given(TEXTS, st.booleans())
def test_joined_words_are_the_text(text, spaced):
    """Splitting loses only superfluous space."""
    expected = " ".join(text.split()) if spaced else "".join(text.split())
    assert join_words(split_words(text, spaced=spaced), spaced=spaced) == expected


@given(TEXTS, st.booleans())
def test_every_word_has_a_letter_or_a_number(text, spaced):
    """Punctuation alone is not a word, so it is never the least likely word."""
    words = split_words(text, spaced=spaced)
    assert len(words) <= 1 or all(normalise_text(word) for word in words)

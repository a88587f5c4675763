"""Transcripts and recognised texts compared in Latin letters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.features import cer
from validation.scoring.romanised import compare_romanised, romanise

HINDI, URDU_LETTERS = "एक दो तीन चार पांच छह सात आठ नौ दस", "ایک دو تین چار پانچ چھے ساتھ آٹھ نو دس"
OTHER_HINDI = "आज सुबह से बारिश हो रही है और पानी"
WORDS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=8)


def test_one_language_in_two_scripts_agrees_better_than_two_texts_in_one_script():
    """Code points of two scripts all differ; romanised, the right text in another script is nearer than a wrong one."""
    transcript = romanise(HINDI, "hi")
    same = compare_romanised(transcript, romanise(URDU_LETTERS, "hi"))
    other = compare_romanised(transcript, romanise(OTHER_HINDI, "hi"))
    assert cer(HINDI, URDU_LETTERS) > 0.7
    assert same.cer < 0.55 < other.cer


@given(WORDS, WORDS)
def test_the_edits_are_the_fewest(stored, heard):
    """The rate is the edit distance of the joined texts by the transcript's letters."""
    assert compare_romanised(stored, heard).cer == pytest.approx(cer("".join(stored), "".join(heard)))


@given(WORDS, WORDS)
def test_lengths_insertions_and_deletions_add_up(stored, heard):
    """What was heard is the transcript, less the deletions, and with the insertions."""
    found, letters = compare_romanised(stored, heard), len("".join(stored))
    assert found.heard_ratio * letters == pytest.approx(len("".join(heard)))
    assert found.heard_ratio == pytest.approx(1 + found.inserted - found.deleted)
    assert found.longest_inserted <= round(found.inserted * letters)


def test_a_wrong_word_is_the_worst_word():
    """One word among many changes the whole little and its own word entirely."""
    heard = ["he", "was", "not", "an", "ill", "disposed", "young", "man"]
    found = compare_romanised(["he", "was", "not", "an", "ill", "vegetable", "young", "man"], heard)
    assert found.cer < 0.35
    assert found.worst_word > 0.7
    assert compare_romanised(heard, heard).worst_word == 0


def test_half_a_transcript_has_twice_its_length_heard():
    """The missing half is one long insertion."""
    found = compare_romanised(["one", "two"], ["one", "two", "three", "four"])
    assert (found.heard_ratio, found.longest_inserted) == (pytest.approx(15 / 6), 9)


def test_texts_without_letters_compare_with_nothing():
    """Punctuation alone is no transcript; unspaced scripts are cut into pairs of characters."""
    assert compare_romanised(romanise("…!", "hi"), ["a"]) is None
    assert romanise("你好世界", "zh") == ["nihao", "shijie"]

"""A transcript's likelihood beside that of the recognised text."""

import numpy as np

from validation.models.whisper.likelihood import best_spelling_score, worst_stretch_lp
from validation.models.whisper.tokenizer import TokenizedText


def words(*told: str) -> TokenizedText:
    """Words of one token each."""
    return TokenizedText(tuple(range(len(told))), tuple(range(1, len(told) + 1)), told)


def test_a_transcript_counts_in_its_likeliest_spelling():
    """The likelier of two spellings gives the score, with its own worst word."""
    spellings = (words("a", "b"), TokenizedText((1, 2, 3), (1, 3), ("a", "bc")))
    log_ps = [np.array([-0.1, -0.3]), np.array([-1.0, -4.0]), np.array([-0.5, -1.0, -3.0])]
    found = best_spelling_score(words("a", "b"), spellings, log_ps)
    assert (found.tokens, found.transcript_lp, found.greedy_lp, found.worst_word_lp) == (3, -1.5, -0.2, -2.0)
    assert found.worst_stretch_lp == -4.0 - -0.3


def test_a_rare_word_is_less_suspect_than_a_wrong_one():
    """Both words have the same probability; what was heard in their place is likely only in place of the wrong one."""
    heard, stored = words("a", "x", "c"), words("a", "y", "c")
    stored_lp = np.array([-0.1, -7.0, -0.2])
    rare = worst_stretch_lp(stored, stored_lp, heard, np.array([-0.1, -5.0, -0.3]))
    wrong = worst_stretch_lp(stored, stored_lp, heard, np.array([-0.1, -0.1, -0.2]))
    assert rare > -2.5
    assert wrong < -6.5


def test_a_missing_word_shows_in_the_word_after_it():
    """The word that follows the gap is unlikely there."""
    found = worst_stretch_lp(
        words("a", "c"), np.array([-0.1, -9.0]), words("a", "b", "c"), np.array([-0.1, -0.2, -0.1])
    )
    assert found == -9.0 + 0.3


def test_equal_words_have_no_stretch():
    """Case and punctuation are no difference."""
    assert worst_stretch_lp(words("A,", "b."), np.array([-1.0, -2.0]), words("a", "B"), np.array([-0.1, -0.1])) == 0.0


def test_without_words_of_the_recognised_text_the_stretch_is_unknown():
    """The other scores remain."""
    found = best_spelling_score(None, (words("a"),), [np.array([-0.1]), np.array([-1.0])])
    assert found.worst_stretch_lp is None
    assert found.transcript_lp == -1.0

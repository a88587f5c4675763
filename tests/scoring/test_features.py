"""Error rates, agreement in Latin letters, repetition, speaking rate, and votes on the declared language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.features import (
    EDGE_CHARS,
    LidPrediction,
    cer,
    chars_per_second,
    compare_romanised,
    compression_ratio,
    count_votes,
    edge_cer_end,
    edge_cer_start,
    find_repetition,
    romanise,
)

WORDS = st.text("abकखह ", max_size=20)
REFERENCES = st.text("abकखह ", min_size=1, max_size=20)
CODES = st.sampled_from(["hi", "ur", "en"])
PREDICTIONS = st.lists(st.builds(LidPrediction, top1=st.none() | CODES, p_declared=st.none() | st.floats(0, 1)))


def count_edits(reference: str, hypothesis: str) -> int:
    """Edit distance by the textbook recurrence."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, 1):
        row, above = [i], row
        for j, right in enumerate(hypothesis, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]


@given(REFERENCES, WORDS)
def test_cer_counts_the_fewest_edits(reference, hypothesis):
    """CER is the textbook edit distance per character of the reference."""
    assert cer(reference, hypothesis) == count_edits(reference, hypothesis) / len(reference)


@given(REFERENCES)
def test_cer_is_zero_for_equal_texts_and_one_for_an_empty_hypothesis(reference):
    """Both ends of the scale have their usual values."""
    assert cer(reference, reference) == 0
    assert cer(reference, "") == 1


@given(WORDS)
def test_an_empty_reference_has_no_rate(hypothesis):
    """Without reference characters every rate is None."""
    assert cer("", hypothesis) is None
    assert edge_cer_start("", hypothesis) is None
    assert edge_cer_end("", hypothesis) is None


@given(REFERENCES, WORDS)
def test_an_edge_is_compared_with_the_best_beginning(reference, hypothesis):
    """The edge rate is the lowest over all beginnings of the hypothesis."""
    edge = reference[:EDGE_CHARS]
    best = min(count_edits(edge, hypothesis[:n]) for n in range(len(hypothesis) + 1))
    assert edge_cer_start(reference, hypothesis) == best / len(edge)


@given(REFERENCES, WORDS, WORDS)
def test_a_recognised_edge_has_no_errors(reference, missing, added):
    """Text after the edge does not count; the rate of a lost edge stays within [0, 1]."""
    assert edge_cer_start(reference, reference[:EDGE_CHARS] + added) == 0
    assert edge_cer_end(reference, added + reference[-EDGE_CHARS:]) == 0
    assert 0 <= edge_cer_start(reference, missing) <= 1


@given(REFERENCES, WORDS)
def test_the_end_rate_is_the_start_rate_of_reversed_texts(reference, hypothesis):
    """Both edges are measured in the same way."""
    assert edge_cer_end(reference, hypothesis) == edge_cer_start(reference[::-1], hypothesis[::-1])


def test_insertions_before_the_edge_cost_their_own_length():
    """A false start counts as insertions; the edge itself is still found after it."""
    assert edge_cer_start("नमस्तेदुनिया", "अरे" + "नमस्तेदुनिया") == len("अरे") / EDGE_CHARS


def test_a_missing_first_word_raises_the_start_rate():
    """The rate over the whole text stays low where only the first word is missing."""
    reference = "नमस्ते दुनिया यह एक लंबा वाक्य है जो बहुत देर तक चलता रहता है"
    hypothesis = reference.removeprefix("नमस्ते ")
    assert cer(reference, hypothesis) < 0.15
    assert edge_cer_start(reference, hypothesis) > 0.5
    assert edge_cer_end(reference, hypothesis) == 0


def test_chars_per_second_ignores_spaces():
    """Ten letters in two seconds are five per second; audio without length has no rate."""
    assert chars_per_second("abcde fghij", 2.0) == 5
    assert chars_per_second("abc", 0.0) is None


@given(st.none() | CODES, PREDICTIONS)
def test_every_lid_model_votes_or_abstains(declared, predictions):
    """The three counts add up to the number of models, and the order of the models does not matter."""
    votes = count_votes(declared, predictions)
    assert votes.agreeing + votes.opposing + votes.abstaining == len(predictions)
    assert count_votes(declared, reversed(predictions)) == votes


@given(PREDICTIONS)
def test_without_a_declared_language_all_lid_models_abstain(predictions):
    """There is no language to agree with."""
    assert count_votes(None, predictions).abstaining == len(predictions)


@pytest.mark.parametrize(
    ("prediction", "counts"),
    [
        (LidPrediction("hi", 0.9), (1, 0, 0)),
        (LidPrediction("bho", 0.4), (1, 0, 0)),
        (LidPrediction("en", 0.02), (0, 1, 0)),
        (LidPrediction("en", None), (0, 0, 1)),
        (LidPrediction(None, None), (0, 0, 1)),
    ],
    ids=["agrees", "names a lect of it", "opposes", "does not know the declared language", "gave no answer"],
)
def test_a_lid_model_that_does_not_know_the_language_abstains(prediction, counts):
    """Another first choice counts only from a model that could have named the declared language."""
    votes = count_votes("hi", [prediction])
    assert (votes.agreeing, votes.opposing, votes.abstaining) == counts


SHORT_WORDS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8)


@given(SHORT_WORDS, st.integers(2, 4))
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


HINDI, URDU_LETTERS = "एक दो तीन चार पांच छह सात आठ नौ दस", "ایک دو تین چار پانچ چھے ساتھ آٹھ نو دس"
OTHER_HINDI = "आज सुबह से बारिश हो रही है और पानी"
LATIN_WORDS = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=8)


def test_one_language_in_two_scripts_agrees_better_than_two_texts_in_one_script():
    """Code points of two scripts all differ; romanised, the right text in another script is nearer than a wrong one."""
    transcript = romanise(HINDI, "hi")
    same = compare_romanised(transcript, romanise(URDU_LETTERS, "hi"))
    other = compare_romanised(transcript, romanise(OTHER_HINDI, "hi"))
    assert cer(HINDI, URDU_LETTERS) > 0.7
    assert same.cer < 0.55 < other.cer


@given(LATIN_WORDS, LATIN_WORDS)
def test_the_edits_are_the_fewest(stored, heard):
    """The rate is the edit distance of the joined texts by the transcript's letters."""
    assert compare_romanised(stored, heard).cer == pytest.approx(cer("".join(stored), "".join(heard)))


@given(LATIN_WORDS, LATIN_WORDS)
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
    assert found.worst_word_share > 0.7
    assert compare_romanised(heard, heard).worst_word_share == 0


def test_half_a_transcript_has_twice_its_length_heard():
    """The missing half is one long insertion."""
    found = compare_romanised(["one", "two"], ["one", "two", "three", "four"])
    assert (found.heard_ratio, found.longest_inserted) == (pytest.approx(15 / 6), 9)


def test_texts_without_letters_compare_with_nothing():
    """Punctuation alone is no transcript; unspaced scripts are cut into pairs of characters."""
    assert compare_romanised(romanise("…!", "hi"), ["a"]) is None
    assert romanise("你好世界", "zh") == ["nihao", "shijie"]

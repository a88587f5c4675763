"""Error rates, speaking rate, and votes on the declared language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.features import (
    EDGE_CHARS,
    LidPrediction,
    cer,
    chars_per_second,
    count_votes,
    edge_cer_end,
    edge_cer_start,
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

"""Levels, clipping, error rates, speaking rate, and votes on the declared language."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.domain import SAMPLE_RATE
from validation.scoring.features import (
    CLIP_LEVEL,
    EDGE_CHARS,
    SILENCE_DBFS,
    LidPrediction,
    cer,
    chars_per_second,
    clipped_fraction,
    count_votes,
    edge_cer_end,
    edge_cer_start,
    rms_dbfs,
)

WORDS = st.text("abकखह ", max_size=20)
REFERENCES = st.text("abकखह ", min_size=1, max_size=20)
CODES = st.sampled_from(["hi", "ur", "en"])
PREDICTIONS = st.lists(st.builds(LidPrediction, top1=st.none() | CODES, p_declared=st.none() | st.floats(0, 1)))


def sine(amplitude: float, duration_s: float = 1.0) -> np.ndarray:
    times = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def test_levels_are_relative_to_a_full_scale_square_wave():
    """A square wave at full scale is 0 dBFS; a sine at full scale is 3.01 dB below it."""
    assert rms_dbfs(np.sign(sine(1.0)[1:1000])) == pytest.approx(0, abs=0.05)
    assert rms_dbfs(sine(1.0)) == pytest.approx(-3.01, abs=0.01)


@given(st.floats(1e-4, 1.0), st.floats(0.01, 1.0))
@settings(deadline=None)
def test_gain_changes_the_level_by_its_decibels(amplitude, gain):
    """Multiplying samples by a gain adds 20 log10(gain) decibels to the level."""
    quieter = rms_dbfs(sine(amplitude * gain))
    assert quieter == pytest.approx(max(rms_dbfs(sine(amplitude)) + 20 * math.log10(gain), SILENCE_DBFS), abs=0.01)


def test_silence_has_a_finite_floor_level():
    """Digital silence has a floor level that rules can compare with; no level is lower."""
    assert rms_dbfs(np.zeros(100, np.float32)) == SILENCE_DBFS
    assert rms_dbfs(np.full(100, 1e-30, np.float32)) == SILENCE_DBFS


@pytest.mark.parametrize("samples", [[], [0.1, math.nan], [math.inf]])
def test_audio_without_finite_samples_has_no_level(samples):
    """The level is None without samples and with samples that are not finite."""
    assert rms_dbfs(np.array(samples, np.float32)) is None


def test_clipped_fraction_counts_samples_at_full_scale():
    """Samples of both signs count, and samples beyond full scale too."""
    assert clipped_fraction(np.array([0.0, 1.0, -1.0, 1.2, 0.5], np.float32)) == pytest.approx(0.6)
    assert clipped_fraction(sine(CLIP_LEVEL / 2)) == 0
    assert clipped_fraction(np.zeros(0, np.float32)) is None


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

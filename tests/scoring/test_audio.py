"""The laws of levels and clipping."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.domain import SAMPLE_RATE
from validation.scoring.audio import CLIP_LEVEL, SILENCE_DBFS, clipped_fraction, rms_dbfs


def sine(amplitude: float, duration_s: float = 1.0) -> np.ndarray:
    times = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    return (amplitude * np.sin(2 * np.pi * 440 * times)).astype(np.float32)


def test_levels_are_relative_to_a_full_scale_square_wave():
    """A square wave at full scale is 0 dBFS, a sine 3.01 dB below it."""
    assert rms_dbfs(np.sign(sine(1.0)[1:1000])) == pytest.approx(0, abs=0.05)
    assert rms_dbfs(sine(1.0)) == pytest.approx(-3.01, abs=0.01)


@given(st.floats(1e-4, 1.0), st.floats(0.01, 1.0))
def test_a_gain_moves_the_level_by_its_decibels(amplitude, gain):
    """Levels add up as decibels do."""
    quieter = rms_dbfs(sine(amplitude * gain))
    assert quieter == pytest.approx(max(rms_dbfs(sine(amplitude)) + 20 * math.log10(gain), SILENCE_DBFS), abs=0.01)


def test_silence_has_the_lowest_level_and_no_infinity():
    """Digital silence is a floor that rules can compare with; nothing is quieter."""
    assert rms_dbfs(np.zeros(100, np.float32)) == SILENCE_DBFS
    assert rms_dbfs(np.full(100, 1e-30, np.float32)) == SILENCE_DBFS


@pytest.mark.parametrize("samples", [[], [0.1, math.nan], [math.inf]])
def test_what_has_no_level_has_none(samples):
    """No samples, or broken ones: not a number."""
    assert rms_dbfs(np.array(samples, np.float32)) is None


def test_clipping_is_the_share_of_samples_at_full_scale():
    """Of both signs, and beyond full scale too."""
    assert clipped_fraction(np.array([0.0, 1.0, -1.0, 1.2, 0.5], np.float32)) == pytest.approx(0.6)
    assert clipped_fraction(sine(CLIP_LEVEL / 2)) == 0
    assert clipped_fraction(np.zeros(0, np.float32)) is None

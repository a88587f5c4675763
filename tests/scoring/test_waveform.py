"""Levels, clipping, bandwidth, edges and pauses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.calibration.fault_injection import overdrive, telephone, truncate
from validation.calibration.trusted_clips import load_trusted_clips
from validation.domain import SAMPLE_RATE
from validation.local.sample_corpus import CLIPS
from validation.scoring.waveform import (
    AUDIO_SIGNALS,
    CLIP_LEVEL,
    SILENCE_DBFS,
    audio_signals,
    bandwidth_hz,
    clipped_fraction,
    edge_levels_db,
    flat_fraction,
    longest_pause_s,
    rms_dbfs,
)


@pytest.fixture(scope="module")
def speech():
    return load_trusted_clips(CLIPS)


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


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.05])
def test_flat_tops_are_found_at_any_level_and_never_in_speech(speech, scale):
    """Clipping that was stored at a lower level has no sample at full scale, and still has its flat tops."""
    for clip in speech:
        clipped = overdrive(clip, speech, np.random.default_rng(0), scale=scale).audio
        assert flat_fraction(clip.audio) < 0.001
        assert flat_fraction(clipped) > 0.03
    assert flat_fraction(np.zeros(100, np.float32)) is None


def test_bandwidth_separates_telephone_speech_from_wide_band_speech(speech):
    """Every telephone clip ends at 3.5 kHz; every clip of these recordings reaches beyond 5 kHz."""
    for clip in speech:
        assert bandwidth_hz(clip.audio) > 5000
        assert bandwidth_hz(telephone(clip, speech, np.random.default_rng(0)).audio) <= 3500


@given(st.floats(1e-3, 1.0), st.sampled_from([500.0, 1000.0, 3000.0]))
@settings(deadline=None, max_examples=20)
def test_bandwidth_of_a_tone_is_its_frequency_at_any_level(gain, hz):
    """A pure tone has energy at one frequency, whatever its level."""
    tone = (gain * np.sin(2 * np.pi * hz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)
    assert bandwidth_hz(tone) == pytest.approx(hz, abs=250)


def test_a_cut_through_speech_leaves_its_level_at_the_edge(speech):
    """The last 50 ms of a clip that was cut in its middle are louder than those of the whole clip."""
    for clip in speech:
        whole = edge_levels_db(clip.audio)[1]
        cut = edge_levels_db(truncate(clip, speech, np.random.default_rng(0), share=0.4).audio)[1]
        assert cut > whole
    assert edge_levels_db(np.zeros(SAMPLE_RATE, np.float32)) == (None, None)


@pytest.mark.parametrize("pause_s", [0.1, 0.5, 2.0])
def test_a_pause_is_as_long_as_the_silence_between_two_sounds(pause_s):
    """Silence at both ends is no pause."""
    silence = np.zeros(round(pause_s * SAMPLE_RATE), np.float32)
    audio = np.concatenate(
        [np.zeros(SAMPLE_RATE, np.float32), sine(0.5), silence, sine(0.5), np.zeros(800, np.float32)]
    )
    assert longest_pause_s(audio) == pytest.approx(pause_s, abs=0.041)
    assert longest_pause_s(np.zeros(SAMPLE_RATE, np.float32)) is None


@pytest.mark.parametrize("samples", [0, 1, 400, SAMPLE_RATE])
def test_every_audio_signal_is_finite_or_unknown(samples):
    """Noise, silence and audio that is not finite, of any length, give numbers or None under every name."""
    noise = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    for audio in (noise, 0 * noise, noise * np.float32(np.nan), None):
        found = audio_signals(audio)
        assert list(found) == [column.name for column in AUDIO_SIGNALS]
        assert all(value is None or math.isfinite(value) for value in found.values())

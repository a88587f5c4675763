from pathlib import Path

import numpy as np
import pytest
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tiny_indic import voice
from validation.domain import Utterance
from validation.models.batching import pad_batch
from validation.models.conformer.mel import MIN_SAMPLES, LogMel, build_mel_filters

GOLDEN = Path(__file__).with_name("golden_mel.txt")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several threads on a busy core wait for each other longer than they work on these small arrays."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def listen(*audios):
    batch = pad_batch([Utterance(audio, "", None) for audio in audios])
    features, counts = LogMel()(torch.from_numpy(batch.waveforms), torch.from_numpy(batch.lengths))
    return features.numpy(), counts.numpy()


def chirp(samples):
    """Two rising tones at a falling level: the same samples on every machine."""
    t = np.arange(samples) / 16_000
    sound = np.sin(2 * np.pi * (200 + 9_000 * t) * t) + 0.2 * np.sin(2 * np.pi * 3_100 * t)
    return (0.4 * np.exp(-12 * t) * sound).astype(np.float32)


def make_features(audio):
    """The features computed a second time, one frame after the other in double precision."""
    x = audio.astype(np.float64)
    emphasised = np.concatenate([x[:1], x[1:] - 0.97 * x[:-1]])
    padded = np.pad(emphasised, 256, mode="reflect")
    window = np.zeros(512)
    window[56:456] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    frames = [padded[start : start + 512] * window for start in range(0, len(x) + 1, 160)]
    power = np.abs(np.fft.rfft(np.array(frames), axis=1)) ** 2
    log_mel = np.log(power @ mel_filters() + 2.0**-24).T
    deviation = log_mel.std(axis=1, ddof=1, keepdims=True)
    return (log_mel - log_mel.mean(axis=1, keepdims=True)) / (deviation + 1e-5)


def mel_filters():
    return FeatureExtractor.get_mel_filters(16_000, 512, 80).T


def test_the_filters_are_those_of_librosa():
    """Triangles, unit areas and scale are those of librosa, as faster-whisper carries them."""
    assert build_mel_filters() == pytest.approx(mel_filters(), abs=1e-7)


@pytest.mark.parametrize("samples", [MIN_SAMPLES, 1600, 7999, 8000, 8001, 24_123])
def test_features_equal_a_second_implementation(samples):
    """A plain implementation in double precision computes the same features."""
    audio = voice(samples / 16_000, seed=3)
    features, counts = listen(audio)
    assert counts[0] == samples // 160 + 1
    assert features[0] == pytest.approx(make_features(audio), abs=1e-3)


def test_features_equal_the_golden_values():
    """Any change of the features changes transcripts, so the values of one signal are pinned."""
    features, _ = listen(chirp(900))
    assert features[0] == pytest.approx(np.loadtxt(GOLDEN), abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(MIN_SAMPLES, 24_000), min_size=2, max_size=5))
def test_the_batch_does_not_change_features(lengths):
    """Reflection, mean and deviation cover an item's own samples, and beyond its frames there are zeros."""
    audios = [voice(length / 16_000, seed) for seed, length in enumerate(lengths)]
    together, counts = listen(*audios)
    for row, count, audio in zip(together, counts, audios, strict=True):
        alone, _ = listen(audio)
        assert row[:, :count] == pytest.approx(alone[0], abs=1e-4)
        assert not row[:, count:].any()


def test_silence_has_features_of_zero():
    """Digital silence is normalised to zero, not to amplified rounding errors."""
    features, _ = listen(np.zeros(16_000, np.float32), voice(1.5))
    assert np.abs(features[0]).max() < 1e-6

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.speech_samples import ask, same_values, silence, values_of, white_noise
from validation.domain import Utterance
from validation.models.dnsmos import WINDOW_SAMPLES, Dnsmos, cut_windows


def test_clean_speech_is_rated_above_the_same_speech_in_noise(models, clips):
    """The more noise, the lower every rating."""
    clean = clips["en_librivox_0880"].audio
    ratings = ask(
        models["dnsmos"],
        *(Utterance(clean + white_noise(len(clean) / 16_000, level=level), "", "en") for level in (0, 0.01, 0.1)),
    )
    for scale in ("sig", "bak", "ovr"):
        assert ratings[0][scale] > ratings[1][scale] > ratings[2][scale]
    assert ratings[0]["ovr"] > 2.8
    assert ratings[2]["bak"] < 1.5


def test_ratings_are_those_of_the_reference_polynomial(models, clips, own_answers):
    """Raw outputs 1..5 pass through Microsoft's published polynomials; a clip's ratings are pinned."""
    found = values_of(own_answers["en_librivox_0880"]["dnsmos"])
    assert found == pytest.approx({"sig": 3.57, "bak": 3.59, "ovr": 3.04}, abs=0.01)


def test_the_batch_does_not_change_a_rating(models, clips):
    """Windows computed together and padded segments have the ratings that they have alone."""
    alone = models["dnsmos"]
    together = Dnsmos(threads=2, windows_per_run=3)
    long = np.tile(clips["en_librivox_0870"].audio, 3)
    utterances = [clips["es_hola_mundo"].utterance(), Utterance(long, "", "en"), clips["zh_jishu"].utterance()]
    for utterance, found in zip(utterances, ask(together, *utterances), strict=True):
        assert same_values(found, ask(alone, utterance)[0])


def test_a_long_segment_has_the_mean_of_its_windows(models, clips):
    """A window of speech, a window of noise, and a rest that is too short to count."""
    speech = np.resize(clips["en_librivox_0870"].audio, WINDOW_SAMPLES)
    noise = white_noise(9.01)
    both = np.concatenate([speech, noise, silence(3.0)])
    first, second, together = ask(models["dnsmos"], *(Utterance(audio, "", "en") for audio in (speech, noise, both)))
    assert first["ovr"] > second["ovr"] + 1
    for scale in ("sig", "bak", "ovr"):
        assert together[scale] == pytest.approx((first[scale] + second[scale]) / 2, abs=1e-4)


def test_silence_has_finite_ratings(models):
    """No length and no content gives NaN."""
    for audio in (silence(0.1), silence(20.0), white_noise(0.1)):
        assert all(np.isfinite(value) for value in ask(models["dnsmos"], Utterance(audio, "", None))[0].values())


@settings(deadline=None)
@given(st.integers(1, 4 * WINDOW_SAMPLES))
def test_windows_do_not_overlap(samples):
    """Each whole window of the audio counts once; shorter audio is repeated from its start."""
    audio = np.arange(samples, dtype=np.float32)
    windows = cut_windows(audio)
    assert windows.shape == (max(1, samples // WINDOW_SAMPLES), WINDOW_SAMPLES)
    flat = windows.reshape(-1)
    assert (flat == np.arange(len(flat)) % samples).all()

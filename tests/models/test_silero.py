import numpy as np
import pytest
from faster_whisper.vad import SileroVADModel, get_assets_path

from tests.support.speech_samples import ask, silence, values_of, white_noise
from validation.domain import Utterance
from validation.models.silero import cut_windows, measure_gaps


@pytest.mark.parametrize("audio", [silence(3.0), silence(0.1), white_noise(3.0), white_noise(3.0, level=1e-3)])
def test_silence_and_noise_have_no_speech(models, audio):
    """Audio without speech has the ratio 0, and its whole length lies before the first speech."""
    (found,) = ask(models["silero"], Utterance(audio, "", None))
    assert (found["speech_ratio"], found["speech_s"], found["pause_s"]) == (0.0, 0.0, 0.0)
    assert found["lead_s"] == found["tail_s"] == len(audio) / 16_000


def test_gaps_are_the_parts_without_speech():
    """Before the first window of speech, after the last, and the longest between two."""
    lead_s, tail_s, pause_s = measure_gaps(np.array([2, 3, 10, 12]), 0.5)
    assert (lead_s, tail_s, pause_s) == pytest.approx((0.064, 0.5 - 13 * 0.032, 6 * 0.032))
    assert measure_gaps(np.array([0, 1]), 0.05) == (0.0, 0.0, 0.0)


def test_most_of_read_speech_is_speech(clips, own_answers):
    """Every clip is speech with short pauses around it, in any language."""
    for name, clip in clips.items():
        found = values_of(own_answers[name]["silero"])
        assert 0.5 < found["speech_ratio"] < 1
        assert found["speech_s"] == pytest.approx(found["speech_ratio"] * clip.utterance().duration_s)


def test_half_a_segment_of_silence_halves_the_ratio(models, clips):
    """Speech is counted in seconds: silence around it adds none."""
    speech = clips["en_librivox_0920"].audio
    padded = np.concatenate([speech, np.zeros_like(speech)])
    alone, with_silence = ask(models["silero"], Utterance(speech, "", "en"), Utterance(padded, "", "en"))
    assert with_silence["speech_s"] == pytest.approx(alone["speech_s"], abs=0.1)
    assert with_silence["speech_ratio"] == pytest.approx(alone["speech_ratio"] / 2, abs=0.02)


def test_probabilities_equal_those_of_the_reference_code(models, clips):
    """The code that the graph was published with computes the same probability of every window."""
    audio = clips["en_librivox_0880"].audio
    padded = np.pad(audio, (0, -len(audio) % 512))
    expected = SileroVADModel(f"{get_assets_path()}/silero_vad_v6.onnx")(padded.copy())
    state = np.zeros((1, 1, 128), dtype=np.float32)
    fed = {"input": cut_windows(audio), "h": state, "c": state}
    assert np.ravel(models["silero"]._session.run(["speech_probs"], fed)[0]) == pytest.approx(np.ravel(expected))

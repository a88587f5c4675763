"""The self-test passes on every suite that works, names the model that does not answer, and refuses wrong weights."""

from pathlib import Path

import pytest

from validation.domain import Fault, Scored, Unscored
from validation.models.self_test import (
    SelfTestFailed,
    SpeechNotRecognised,
    check_speech,
    make_noise,
    read_clip,
    run_self_test,
)
from validation.models.suite import load_suite
from validation.models.suites import SUITES


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_local_suite_answers_noise_and_silence(suite):
    """Real weights: Whisper, DNSMOS and Silero answer both probes."""
    run_self_test(suite)


def test_indic_suite_answers_noise_and_silence(weights_root, monkeypatch):
    """Tiny networks of the production architectures: silence, whose features do not vary, is answered as well."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    run_self_test(load_suite("indic", threads=2))


class DeafToSilence:
    """A suite of two models, of which `mms` answers only audio that is not silent."""

    def __init__(self) -> None:
        self.columns = {"mms": (), "dnsmos": ()}

    def score_batch(self, batch):
        fault = Unscored(Fault("model_failed", "NaN"))
        return [
            {name: Scored({}) if row.any() or name != "mms" else fault for name in wanted}
            for row, wanted in zip(batch.waveforms, batch.requested_models, strict=True)
        ]


def test_model_that_fails_on_silence_alone_is_named():
    """Both probes must be answered by all models, or by all that were requested."""
    with pytest.raises(SelfTestFailed, match="model mms fails on this machine in the self-test: model_failed: NaN"):
        run_self_test(DeafToSilence())
    run_self_test(DeafToSilence(), ["dnsmos"])


def test_noise_is_the_same_at_each_call():
    """Equal noise makes equal probes on every box."""
    assert (make_noise(0.5) == make_noise(0.5)).all()


ROOT = Path(__file__).parents[2]


def test_real_weights_recognise_the_known_clips(suite):
    """Suite `local` writes the text of its clip and hears its language."""
    (clip,) = check_speech(suite)
    assert clip.cer < 0.2
    assert clip.languages == {"whisper": "en"}


def test_random_weights_are_refused(weights_root, monkeypatch):
    """Weights that load without an error but do not recognise speech refuse the start, with what was heard."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    with pytest.raises(
        SpeechNotRecognised, match=r"suite indic does not recognise clear speech: conformer has a CER of"
    ):
        check_speech(load_suite("indic", threads=1))


@pytest.mark.parametrize("name", sorted({name for spec in SUITES.values() for name in spec.known_clips}))
def test_the_image_holds_the_known_clips(name):
    """Each clip is read from the package, and the build context of the image keeps it."""
    assert read_clip(name).text
    assert f"!validation/local/clips/{name}.flac" in (ROOT / ".dockerignore").read_text().splitlines()

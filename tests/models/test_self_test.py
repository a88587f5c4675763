"""The self-test passes on every suite that works, and names the model that does not answer."""

import pytest

from validation.domain import Fault, Scored, Unscored
from validation.models.self_test import SelfTestFailed, make_noise, run_self_test
from validation.models.suite import load_suite


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

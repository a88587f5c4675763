"""The forms of DNSMOS and Silero VAD for a GPU, run on a CPU: their answers equal those of the forms for a CPU."""

import numpy as np
import pytest
import torch

from tests.support.host_reads import no_host_reads
from tests.support.speech_samples import same_values, silence, values_of, white_noise
from tests.support.tiny_indic import voice
from validation.domain import Utterance
from validation.hardware.device import DeviceConfig, allowing_tf32
from validation.models import dnsmos, silero_torch
from validation.models.batching import pad_batch
from validation.models.dnsmos import Dnsmos
from validation.models.silero import SileroVad, cut_windows
from validation.models.silero_torch import SileroOnDevice, load_silero
from validation.models.voxlingua import VoxLingua107


@pytest.fixture
def batch(clips):
    """Real speech, silence and noise, from less than a window to more than two windows of DNSMOS."""
    audios = [clips["en_hello_world"].audio[:24_001], silence(1.0), white_noise(0.02), voice(18.5)]
    return pad_batch([Utterance(audio, "", None) for audio in audios])


def test_silero_in_torch_equals_the_graph(batch):
    """Gate order, padding and strides are those of the exported graph: every answer is equal in a padded batch."""
    stock, ours = SileroVad(threads=1), SileroOnDevice("cpu")
    assert ours.columns == stock.columns
    with no_host_reads():
        answering = ours.launch(batch)
    for found, expected in zip(answering(), stock.score(batch), strict=True):
        assert same_values(values_of(found), values_of(expected))


def test_silero_probabilities_are_equal_to_rounding(clips):
    """The probabilities themselves, before the threshold."""
    audio = clips["hi_ginti"].audio
    state = np.zeros((1, 1, 128), np.float32)
    stock, ours = SileroVad(threads=1), SileroOnDevice("cpu")
    (expected,) = stock._session.run(["speech_probs"], {"input": cut_windows(audio), "h": state, "c": state})
    with torch.inference_mode():
        found = ours._network(torch.from_numpy(audio)[None])[0].numpy()
    assert found == pytest.approx(np.ravel(expected), abs=1e-5)


def test_dnsmos_from_the_shared_upload_equals_dnsmos(batch):
    """Windows that are cut on the device, short segments repeated, get the same ratings."""
    stock, ours = Dnsmos(threads=1), Dnsmos(threads=1, windows_per_run=2)
    ours._run = lambda *_: pytest.fail("the audio was copied again")
    counts = [max(1, int(n) // dnsmos.WINDOW_SAMPLES) for n in batch.lengths]
    windows = [dnsmos.cut_windows(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]
    assert ours._run_uploaded(batch, counts) == pytest.approx(stock._run(np.concatenate(windows)), abs=1e-5)


def test_models_for_a_gpu_are_chosen_by_the_settings(monkeypatch):
    """On a CPU Silero runs in ONNX Runtime, and on a GPU in torch."""
    assert isinstance(load_silero(threads=1), SileroVad)
    monkeypatch.setattr(silero_torch, "device_from_settings", lambda: DeviceConfig("cuda"))
    monkeypatch.setattr(silero_torch, "SileroOnDevice", lambda device: device)
    assert load_silero(threads=1) == "cuda"


def test_revisions_name_tf32(weights_root, monkeypatch):
    """Answers in TF32 are told from answers in single precision by the revision of their model."""
    assert Dnsmos(threads=1, tf32=True).revision == f"{Dnsmos(threads=1).revision}-tf32"
    monkeypatch.setattr(DeviceConfig, "tf32", property(lambda _: True))
    config = DeviceConfig("cpu", "float16")
    seen = []
    model = VoxLingua107(threads=1, root=weights_root, device_config=config)
    monkeypatch.setattr(
        model._network, "_compute_features", lambda *_: seen.append(torch.backends.cudnn.allow_tf32) or 1 / 0
    )
    with allowing_tf32(allowed=False), pytest.raises(ZeroDivisionError):
        model.score(pad_batch([Utterance(voice(1.0), "", "hi")]))
    assert seen == [True]
    assert model.revision.endswith("-tf32")

"""Both engines against NeMo, from which IndicConformer was exported. `make upstream-check` installs NeMo; elsewhere
these tests are skipped."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from simulation.tiny_models.conformer import save_vocabulary
from tests.support.tiny_indic import run_engine, voice
from validation.hardware.device import DeviceConfig
from validation.models.conformer.mel import LogMel
from validation.models.conformer.onnx_engine import OnnxEngine
from validation.models.conformer.onnx_to_torch import load_torch_engine
from validation.models.conformer.tokenizer import read_vocabulary
from validation.models.import_shims import allow_torchaudio

pytestmark = pytest.mark.filterwarnings("ignore")  # NeMo and the exporter warn about themselves
OPSET = 16
"""That of the published export."""
SYMBOLS = 22 * 256
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Size:
    layers: int
    width: int
    heads: int
    channels: int


SMALL, PUBLISHED = Size(2, 16, 2, 4), Size(24, 1024, 8, 256)


@pytest.fixture(scope="module")
def nemo():
    allow_torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("nemo.collections.asr.modules", reason="NeMo is not installed: make upstream-check")


def make_modules(nemo, size, *, trained):
    """NeMo's encoder and CTC head, as constructed or with norms as training leaves them."""
    torch.manual_seed(0)
    encoder = nemo.ConformerEncoder(
        feat_in=80, n_layers=size.layers, d_model=size.width, n_heads=size.heads, conv_kernel_size=9, xscaling=True,
        subsampling="dw_striding", subsampling_factor=8, subsampling_conv_channels=size.channels,
    ).eval()  # fmt: skip
    head = nemo.ConvASRDecoder(
        feat_in=size.width, num_classes=SYMBOLS, vocabulary=list(map(str, range(SYMBOLS)))
    ).eval()
    torch.nn.init.normal_(head.decoder_layers[0].weight, std=8 * size.width**-0.5)  # decisive first choices
    for module in encoder.modules() if trained else ():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
        if hasattr(module, "pos_bias_u"):
            torch.nn.init.normal_(module.pos_bias_u, std=0.1)
            torch.nn.init.normal_(module.pos_bias_v, std=0.1)
    return encoder, head


def run_nemo(encoder, head, audio, columns):
    """One clip's log-probabilities, in one language's columns."""
    features, counts = LogMel()(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
    with torch.inference_mode():
        encoded, lengths = encoder(audio_signal=features, length=counts)
        logits = head(encoder_output=encoded)[0, : int(lengths[0])]
    return logits[:, columns].log_softmax(dim=1).numpy()


def compare(nemo, assets, size, *, trained, durations_s):
    encoder, head = make_modules(nemo, size, trained=trained)
    for module, name in ((encoder, "encoder.onnx"), (head, "ctc_decoder.onnx")):
        module.export(str(assets / name), onnx_opset_version=OPSET, check_trace=False)
    save_vocabulary(assets)
    vocabulary = read_vocabulary(assets, SYMBOLS + 1)
    audios = [voice(duration_s, seed) for seed, duration_s in enumerate(durations_s)]
    languages = np.arange(len(audios)) * 5 % len(vocabulary.languages)
    expected = [run_nemo(encoder, head, *pair) for pair in zip(audios, vocabulary.columns[languages], strict=True)]
    del encoder, head
    worst = {}
    for load in (
        lambda: OnnxEngine(assets, vocabulary, threads=2),
        lambda: load_torch_engine(assets, vocabulary, DeviceConfig()),
    ):
        engine = load()
        found = run_engine(engine, audios, languages)
        for row, own in enumerate(expected):
            assert found.frames[row] == len(own)
            ours = found.log_probs[row, : len(own)]
            worst[engine.name] = max(worst.get(engine.name, 0.0), float(np.abs(ours - own).max()))
            assert np.array_equal(ours.argmax(axis=1), own.argmax(axis=1))
        del engine
    print(f"greatest difference to NeMo: {worst}")  # noqa: T201 - what `make upstream-check` reports
    assert max(worst.values()) <= TOLERANCE


@pytest.mark.parametrize("trained", [False, True])
def test_both_engines_equal_nemo_in_a_padded_batch(nemo, tmp_path, trained):
    """A batch of segments of different lengths has the log-probabilities and the text that NeMo gives each clip alone.

    As constructed, all norms are equal, and the exporter merges them.
    """
    compare(nemo, tmp_path, SMALL, trained=trained, durations_s=(0.3, 6.1, 2.2))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_engines_equal_nemo_at_the_published_size(nemo, tmp_path):
    """The same with 24 layers of 1024, whose export has its weights in external files."""
    compare(nemo, tmp_path, PUBLISHED, trained=True, durations_s=(3.1, 1.2))


def test_a_causal_encoder_is_refused(nemo, tmp_path):
    """An encoder for streaming pads its convolutions on one side only; its graph is refused with a reason."""
    from validation.models.conformer.graph import UnsupportedGraph, read_graph
    from validation.models.conformer.onnx_to_torch import build_network

    encoder = nemo.ConformerEncoder(
        feat_in=80, n_layers=1, d_model=16, n_heads=2, conv_kernel_size=9, conv_context_size="causal", xscaling=True,
        subsampling="dw_striding", subsampling_factor=8, subsampling_conv_channels=4,
    ).eval()  # fmt: skip
    encoder.export(str(tmp_path / "encoder.onnx"), onnx_opset_version=OPSET, check_trace=False)
    graph = read_graph(tmp_path / "encoder.onnx")
    with pytest.raises(UnsupportedGraph, match="causal convolutions are not known"):
        build_network(graph, graph)

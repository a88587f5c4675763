import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from simulation.tiny_models.conformer import ConformerSize, save_conformer
from tests.support.tiny_indic import run_engine as run
from tests.support.tiny_indic import voice
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig
from validation.models.conformer.graph import UnsupportedGraph, consolidate_repository, read_graph
from validation.models.conformer.mel import LogMel
from validation.models.conformer.onnx_engine import OnnxEngine, make_padding_exact
from validation.models.conformer.onnx_to_torch import build_network, load_torch_engine
from validation.models.conformer.tokenizer import BLANK, read_vocabulary
from validation.models.onnx import create_onnx_session

DURATIONS_S = [0.1, 0.11, 0.3, 1.0, 30.0]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Several threads on a busy core wait for each other longer than they work on these small arrays."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def assets(weights_root):
    return weights_root / "indicconformer-600m" / "assets"


@pytest.fixture(scope="module")
def vocabulary(assets):
    return read_vocabulary(assets, 5633)


@pytest.fixture(scope="module")
def onnx_engine(assets, vocabulary):
    return OnnxEngine(assets, vocabulary, threads=1)


@pytest.fixture(scope="module")
def torch_engine(assets, vocabulary):
    return load_torch_engine(assets, vocabulary, DeviceConfig())


@pytest.fixture
def own_assets(assets, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(assets, tmp_path / "assets")


def assert_same_output(one, other, row, other_row, *, tolerance):
    """Compare log-probabilities within the tolerance, and the greedy text and the languages' scores except at ties."""
    frames = one.frames[row]
    own, expected = one.log_probs[row, :frames], other.log_probs[other_row, :frames]
    assert own == pytest.approx(expected, abs=tolerance)
    runner_up, best = np.sort(expected, axis=1)[:, -2:].T
    settled = best - runner_up > 2 * tolerance
    assert settled.mean() > 0.9
    assert np.array_equal(own.argmax(1)[settled], expected.argmax(1)[settled])
    # Over 22 languages and hundreds of frames, a tie falls one way or the other.
    assert one.best_counts[row] == pytest.approx(other.best_counts[other_row], abs=2)
    same = one.best_counts[row] == other.best_counts[other_row]
    assert same.sum() >= 20
    assert one.best_sums[row, same] == pytest.approx(other.best_sums[other_row, same], abs=1e-2)


@st.composite
def batches(draw):
    """Segments of 0.1 to 30 s in one batch, each with a language."""
    durations_s = draw(st.lists(st.sampled_from(DURATIONS_S) | st.floats(0.1, 7.0), min_size=2, max_size=3))
    return [(voice(s, seed), draw(st.integers(0, 21))) for seed, s in enumerate(durations_s)]


@pytest.mark.parametrize("kind", ["onnx_engine", "torch_engine"])
@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(batches())
def test_the_batch_does_not_change_the_output(kind, request, batch):
    """A segment's log-probabilities equal those of it alone to 1e-5, and its greedy text, except at ties."""
    engine = request.getfixturevalue(kind)
    together = run(engine, [audio for audio, _ in batch], [language for _, language in batch])
    for row, (audio, language) in enumerate(batch):
        alone = run(engine, [audio], [language])
        assert together.frames[row] == alone.frames[0] == (len(audio) // 160) // 8 + 1
        assert_same_output(together, alone, row, 0, tolerance=1e-5)


def test_both_engines_give_the_same_output(onnx_engine, torch_engine):
    """The torch engine has the exported graph's log-probabilities to 1e-4, and its text."""
    audios, languages = [voice(s, 7) for s in (0.1, 2.0, 5.3, 12.0)], [0, 5, 21, 8]
    exported, ours = (run(engine, audios, languages) for engine in (onnx_engine, torch_engine))
    assert np.array_equal(exported.frames, ours.frames)
    for row in range(len(audios)):
        assert_same_output(exported, ours, row, row, tolerance=1e-4)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_is_close_to_single_precision(assets, vocabulary, torch_engine, precision):
    """Half precision changes log-probabilities by rounding, and nothing overflows."""
    audios, languages = [voice(s, 9) for s in (0.4, 6.0)], [3, 11]
    half = load_torch_engine(assets, vocabulary, DeviceConfig("cpu", precision))
    assert half.name == f"torch-{precision}"
    fine, coarse = (run(engine, audios, languages) for engine in (torch_engine, half))
    assert np.isfinite(coarse.log_probs).all()
    assert np.abs(fine.log_probs - coarse.log_probs)[1].mean() < {"float16": 0.05, "bfloat16": 0.4}[precision]


def test_log_probabilities_are_the_published_decoding(onnx_engine, assets, vocabulary):
    """The log-probabilities are those of the stock graphs, the language's mask and a log-softmax on one segment."""
    audio, language = voice(3.1, 4), vocabulary.index_of["or"]
    features, counts = LogMel()(torch.from_numpy(audio)[None], torch.tensor([len(audio)]))
    encoder, head = (read_graph(assets / name) for name in ("encoder.onnx", "ctc_decoder.onnx"))
    stock = create_onnx_session(encoder.proto.SerializeToString(), threads=1, weights=encoder.weights)
    encoded, _ = stock.run(None, {"audio_signal": features.numpy(), "length": counts.numpy()})
    (logits,) = create_onnx_session(head.proto.SerializeToString(), threads=1).run(None, {"encoder_output": encoded})
    mask = json.loads((assets / "language_masks.json").read_text())["or"]
    expected = torch.from_numpy(logits[0][:, np.array(mask)]).log_softmax(1).numpy()
    heard = run(onnx_engine, [audio], [language])
    assert heard.log_probs[0] == pytest.approx(expected, abs=1e-5)


def test_every_language_is_scored_by_its_own_greedy_text(onnx_engine, vocabulary):
    """Sums and counts of all 22 languages are those of 22 greedy texts, each decoded in its language alone."""
    audio = voice(2.2, 8)
    heard = run(onnx_engine, [audio, voice(4.0)], [0, 0])
    for index in range(len(vocabulary.languages)):
        own = run(onnx_engine, [audio], [index]).log_probs[0]
        best = own.argmax(1)
        written = (best != BLANK) & np.concatenate([[True], best[1:] != best[:-1]])
        assert heard.best_counts[0, index] == written.sum()
        assert heard.best_sums[0, index] == pytest.approx(own.max(1)[written].sum(), abs=1e-3)


def test_only_the_patched_graph_ignores_padding(assets):
    """Without the patch padding changes the last frames, with the patch it does not."""

    def worst(edit):
        graph = read_graph(assets / "encoder.onnx")
        if edit:
            make_padding_exact(graph.proto, graph.file)
        session = create_onnx_session(graph.proto.SerializeToString(), threads=1, weights=graph.weights)
        features = np.random.default_rng(0).normal(size=(1, 80, 93)).astype(np.float32)
        padded = np.pad(features, ((0, 0), (0, 0), (0, 60)))
        (alone, frames), (beside, _) = (
            session.run(None, {"audio_signal": signal, "length": np.array([93])}) for signal in (features, padded)
        )
        return np.abs(alone - beside[:, :, : frames[0]]).max()

    assert worst(edit=False) > 1e-3
    assert worst(edit=True) < 1e-6


@pytest.mark.parametrize("layout", ["links", "consolidated"])
def test_links_and_consolidated_weights_give_the_same_output(assets, vocabulary, onnx_engine, tmp_path, layout):
    """Symbolic links and one file of all weights give the same answers, bit for bit."""
    other = tmp_path / "other"
    if layout == "links":
        shutil.copytree(assets, tmp_path / "blobs")
        (other / "assets").mkdir(parents=True)
        for blob in (tmp_path / "blobs").iterdir():
            (other / "assets" / blob.name).symlink_to(blob)
    else:
        consolidate_repository(assets.parent, other)
        expected = {"encoder.onnx", "encoder.onnx.data", "ctc_decoder.onnx", "vocab.json", "language_masks.json"}
        assert {path.name for path in (other / "assets").iterdir()} == expected
        onnxruntime.InferenceSession(other / "assets/encoder.onnx", providers=["CPUExecutionProvider"])
    engine = OnnxEngine(other / "assets", vocabulary, threads=1)
    before, after = (run(either, [voice(1.7)], [2]) for either in (onnx_engine, engine))
    assert np.array_equal(before.log_probs, after.log_probs)


def test_network_sizes_are_read_from_the_weights(tmp_path):
    """Layers, widths, heads and scaling come from the file; only the kind of subsampling is fixed."""
    sizes = ConformerSize(layers=3, width=24, heads=3, feed_forward=40, channels=6, scales_input=False)
    folder = save_conformer(tmp_path / "other", sizes) / "assets"
    vocabulary = read_vocabulary(folder, 5633)
    engines = OnnxEngine(folder, vocabulary, threads=1), load_torch_engine(folder, vocabulary, DeviceConfig())
    exported, ours = (run(engine, [voice(2.5)], [1]) for engine in engines)
    assert exported.log_probs == pytest.approx(ours.log_probs, abs=1e-4)


def of_name(proto, name):
    return next(tensor for tensor in proto.graph.initializer if tensor.name == name)


def change_encoder(folder, change):
    proto = onnx.load(folder / "encoder.onnx", load_external_data=False)
    change(proto)
    (folder / "encoder.onnx").write_bytes(proto.SerializeToString())


def test_a_weight_outside_its_folder_is_refused(own_assets):
    """Only files in the folder have been checked against the lock."""
    change_encoder(own_assets, lambda proto: proto.graph.initializer[0].external_data.add(key="location", value="../x"))
    with pytest.raises(UnsupportedGraph, match=r"lies at \.\./x, outside its folder"):
        read_graph(own_assets / "encoder.onnx")


def test_a_truncated_weight_is_refused(own_assets):
    """The error names a file that is too short."""
    (own_assets / "pre_encode.conv.0.weight").write_bytes(b"\0" * 7)
    with pytest.raises(UnsupportedGraph, match=r"pre_encode\.conv\.0\.weight is too short"):
        read_graph(own_assets / "encoder.onnx")


def test_a_graph_that_is_too_old_is_refused(own_assets):
    """The patches need the operators of opset 13 or later."""
    change_encoder(own_assets, lambda proto: setattr(proto.opset_import[0], "version", 11))
    with pytest.raises(UnsupportedGraph, match="opset 11"):
        read_graph(own_assets / "encoder.onnx")


def test_another_subsampling_is_refused(own_assets, vocabulary):
    """Lengths are only computed for convolutions of kernel 3, stride 2 and padding 1."""

    def widen(proto):
        conv = next(node for node in proto.graph.node if node.op_type == "Conv")
        next(attribute for attribute in conv.attribute if attribute.name == "pads").ints[0] = 2

    change_encoder(own_assets, widen)
    with pytest.raises(UnsupportedGraph, match="kernel 3 and padding 1"):
        OnnxEngine(own_assets, vocabulary, threads=1)


def test_a_wrong_frame_count_is_refused(own_assets, vocabulary):
    """The encoder runs once at load, because one frame off makes every transcript look wrong."""

    def shift(proto):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(1), "one_more"))
        producer = next(node for node in proto.graph.node if "encoded_lengths" in node.output)
        producer.output[0] = "lengths_before"
        proto.graph.node.append(onnx.helper.make_node("Add", ["lengths_before", "one_more"], ["encoded_lengths"]))

    change_encoder(own_assets, shift)
    with pytest.raises(UnsupportedGraph, match="101 frames into 14, not 13"):
        OnnxEngine(own_assets, vocabulary, threads=1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda proto: proto.graph.initializer.append(numpy_helper.from_array(np.ones(9, "f"), "adapter")), "adapter"),
        (
            lambda proto: proto.graph.initializer.remove(of_name(proto, "layers.1.norm_out.bias")),
            "no weight for layers.1",
        ),
    ],
)
def test_unused_and_missing_weights_are_refused(own_assets, change, sentence):
    """A weight that no module takes and a module without a weight are both errors."""
    change_encoder(own_assets, change)
    with pytest.raises(UnsupportedGraph, match=sentence):
        build_network(read_graph(own_assets / "encoder.onnx"), read_graph(own_assets / "ctc_decoder.onnx"))


def test_a_missing_gpu_is_refused(assets, vocabulary, monkeypatch):
    """Without the check ONNX Runtime would compute on the CPU while the rented GPU is idle."""
    monkeypatch.setattr("validation.models.conformer.onnx_engine.LogMel", lambda device: None)
    with pytest.raises(BadInput, match="not on the GPU"):
        OnnxEngine(assets, vocabulary, threads=1, device="cuda")


@pytest.mark.parametrize("with_copies", [True, False])
def test_weights_that_the_exporter_merged_are_found(own_assets, vocabulary, with_copies):
    """A norm whose weights are another's, with a copying node or without, gives the exported graph's answers."""

    def merge(proto):
        renamed = {}
        for kind in ("weight", "bias"):
            kept, gone = f"layers.0.norm_out.{kind}", f"layers.1.norm_out.{kind}"
            proto.graph.initializer.remove(of_name(proto, gone))
            renamed[gone] = kept
            if with_copies:
                proto.graph.node.insert(0, onnx.helper.make_node("Identity", [kept], [gone], f"Identity_{kind}"))
        for node in [] if with_copies else proto.graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = renamed.get(name, name)

    change_encoder(own_assets, merge)
    engines = OnnxEngine(own_assets, vocabulary, threads=1), load_torch_engine(own_assets, vocabulary, DeviceConfig())
    exported, ours = (run(engine, [voice(2.5)], [1]) for engine in engines)
    assert exported.log_probs == pytest.approx(ours.log_probs, abs=1e-4)


@pytest.mark.parametrize("own_node", [True, False])
def test_causal_convolutions_are_refused(own_assets, vocabulary, own_node):
    """A convolution that pads on the left only is refused, whether it pads itself or a node before it does."""

    def delay(proto):
        conv = next(node for node in proto.graph.node if "depthwise_conv" in node.name)
        pads = next(attribute for attribute in conv.attribute if attribute.name == "pads")
        pads.ints[:] = [0, 0] if own_node else [8, 0]
        if own_node:
            proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 8, 0, 0, 0]), "pads"))
            padded = onnx.helper.make_node("Pad", [conv.input[0], "pads"], ["padded"], "causal_padding")
            proto.graph.node.insert(list(proto.graph.node).index(conv), padded)
            conv.input[0] = "padded"

    change_encoder(own_assets, delay)
    with pytest.raises(UnsupportedGraph, match=r"pads \[8, 0\]: causal convolutions are not known"):
        load_torch_engine(own_assets, vocabulary, DeviceConfig())

"""Run IndicConformer in ONNX Runtime, in single precision.

The exported graphs are patched before they run. The patched CTC head returns only values that are used, and the patched
encoder ignores padding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from validation.models.conformer.graph import UnsupportedGraph, read_graph
from validation.models.conformer.mel import MELS, LogMel
from validation.models.conformer.segment import EngineOutput
from validation.models.conformer.tokenizer import Vocabulary
from validation.models.onnx import create_onnx_session
from validation.models.upload import DeviceAudio

_HEAD, _PADDING = "narrow_", "exact_padding"
"""Prefixes of all names that the patches add, so that they do not collide with names of the graph."""
FRAMES, LANGUAGES = f"{_HEAD}frames", f"{_HEAD}languages"
"""Inputs that ``prune_head`` adds, both (B,) int64: the number of frames and the index of the language of each item."""
LOG_PROBS, BEST_SUMS, BEST_COUNTS = f"{_HEAD}log_probs", f"{_HEAD}best_sums", f"{_HEAD}best_counts"
"""Outputs by which ``prune_head`` replaces the logits; ``EngineOutput`` documents them."""
LENGTHS = "length"
"""The name of the encoder's input with the number of feature frames of each item."""


def prune_head(proto: ModelProto, columns: NDArray[np.int64]) -> None:
    """Edit the head's graph: it returns log-probabilities of each item's language, and scores of all languages.

    Then 257 numbers per frame leave the device instead of 5,633.

    Args:
        proto: the head's graph, which computes logits (B, T, W) from the encoder's output; edited in place.
        columns: (L, K) indices of the logits of each language; the blank comes last.
    """
    graph = proto.graph
    logits, (count, width) = graph.output[0].name, columns.shape
    graph.initializer.extend(_head_constants(columns))
    graph.node.append(helper.make_node("Identity", [logits], [f"{_HEAD}logits"], name=f"{_HEAD}logits"))
    graph.node.extend(_make_log_prob_nodes())
    graph.node.extend(_make_language_score_nodes())
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, ["B"]) for name in (FRAMES, LANGUAGES))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info(LOG_PROBS, TensorProto.FLOAT, ["B", "T", width]),
            helper.make_tensor_value_info(BEST_SUMS, TensorProto.FLOAT, ["B", count]),
            helper.make_tensor_value_info(BEST_COUNTS, TensorProto.FLOAT, ["B", count]),
        ]
    )


def _make_log_prob_nodes() -> list[NodeProto]:
    """Make the nodes that gather the logits of each item's language and take their log-softmax."""
    return [
        _head_node("Gather", ["table", "languages"], "own_columns", axis=0),
        _head_node("Unsqueeze", ["own_columns", "axis_1"], "own_columns_per_frame"),
        _head_node("Shape", ["logits"], "logits_shape"),
        _head_node("Slice", ["logits_shape", "axis_0", "axis_2"], "batch_and_time"),
        _head_node("Concat", ["batch_and_time", "width"], "own_shape", axis=0),
        _head_node("Expand", ["own_columns_per_frame", "own_shape"], "own_places"),
        _head_node("GatherElements", ["logits", "own_places"], "own_logits", axis=2),
        _head_node("LogSoftmax", ["own_logits"], "log_probs", axis=2),
    ]


def _make_language_score_nodes() -> list[NodeProto]:
    """Make the nodes that sum, for each language, the log-probabilities of the tokens of its greedy text.

    A token is a frame's likeliest symbol that is neither the blank nor the symbol of the frame before.
    """
    return [
        _head_node("Gather", ["logits", "all_columns"], "all_logits", axis=2),
        _head_node("Reshape", ["all_logits", "by_language"], "language_logits"),
        _head_node("LogSoftmax", ["language_logits"], "language_log_probs", axis=3),
        _head_node("TopK", ["language_log_probs", "axis_1"], "top_lp", "top_symbol", axis=3),
        _head_node("Reshape", ["top_lp", "without_symbols"], "best_lp"),
        _head_node("Reshape", ["top_symbol", "without_symbols"], "best_symbol"),
        # Every execution provider can pad and compare floats.
        _head_node("Cast", ["best_symbol"], "best", to=TensorProto.FLOAT),
        _head_node("Pad", ["best", "one_frame_later", "no_symbol"], "before"),
        _head_node("Equal", ["best", "before"], "repeated"),
        _head_node("Equal", ["best", "blank"], "silent"),
        _head_node("Or", ["repeated", "silent"], "unwritten"),
        _head_node("Not", ["unwritten"], "written"),
        _head_node("Gather", ["logits_shape", "one"], "time", axis=0),
        _head_node("Range", ["zero", "time", "one"], "places"),
        _head_node("Unsqueeze", ["frames", "axis_1"], "frames_per_row"),
        _head_node("Less", ["places", "frames_per_row"], "real"),
        _head_node("Unsqueeze", ["real", "axis_2"], "real_per_language"),
        _head_node("And", ["written", "real_per_language"], "counted"),
        _head_node("Cast", ["counted"], "weight", to=TensorProto.FLOAT),
        _head_node("Mul", ["best_lp", "weight"], "weighted"),
        _head_node("ReduceSum", ["weighted", "axis_1"], "best_sums", keepdims=0),
        _head_node("ReduceSum", ["weight", "axis_1"], "best_counts", keepdims=0),
    ]


def _head_constants(columns: NDArray[np.int64]) -> list[TensorProto]:
    """Make the constants that the added nodes of the head read."""
    count, width = columns.shape
    whole: dict[str, int | Sequence[int] | NDArray[np.int64]] = {
        "table": columns,
        "all_columns": columns.reshape(-1),
        "by_language": [0, 0, count, width],
        "without_symbols": [0, 0, count],
        "width": [width],
        "one_frame_later": [0, 1, 0, 0, -1, 0],
        "axis_0": [0],
        "axis_1": [1],
        "axis_2": [2],
        "zero": 0,
        "one": 1,
    }
    real = {"blank": width - 1.0, "no_symbol": -1.0}
    return [
        *(numpy_helper.from_array(np.array(value, np.int64), f"{_HEAD}{name}") for name, value in whole.items()),
        *(numpy_helper.from_array(np.array(value, np.float32), f"{_HEAD}{name}") for name, value in real.items()),
    ]


def _head_node(op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> NodeProto:
    """Make a node of the head. The prefix ``_HEAD`` is put before every name."""
    own = [f"{_HEAD}{name}" for name in outputs]
    return helper.make_node(op, [f"{_HEAD}{name}" for name in inputs], own, name=own[0], **attributes)


def make_padding_exact(proto: ModelProto, file: str) -> int:
    """Edit the encoder's graph: zero the padded frames before each strided convolution except the first.

    In the exported graph (NeMo 1.23) padded frames are zero only before the first convolution that halves the frames.
    Bias and ReLU change the zeros, and the next convolution mixes these values into the item's last frames. That
    changes log-probabilities by up to 0.12. Attention and the other convolutions are masked correctly. The answers for
    items without padding stay equal bit for bit.

    Args:
        proto: the encoder's graph; edited in place.
        file: the file name of the graph, for error messages.

    Returns:
        The subsampling factor, a power of two.

    Raises:
        UnsupportedGraph: the graph has another kind of subsampling.
    """
    strided = [
        node for node in proto.graph.node if node.op_type == "Conv" and set(_int_attribute(node, "strides")) == {2}
    ]
    if LENGTHS not in {value.name for value in proto.graph.input} or not strided:
        raise UnsupportedGraph(file, f"it has no input {LENGTHS}, or no convolution that halves the frames")
    for node in strided:
        if set(_int_attribute(node, "kernel_shape")) != {3} or set(_int_attribute(node, "pads")) != {1}:
            raise UnsupportedGraph(file, f"{node.name or node.output[0]} is not of kernel 3 and padding 1")
    proto.graph.initializer.extend(_padding_constants())
    nodes: list[NodeProto] = []
    lengths = LENGTHS
    for node in proto.graph.node:
        if node in strided:
            stage = strided.index(node)
            if stage > 0:
                nodes += _zero_beyond(node, lengths, stage)
            halved, lengths = _halve_lengths(lengths, stage)
            nodes += halved
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return int(2 ** len(strided))


def _zero_beyond(node: NodeProto, lengths: str, stage: int) -> list[NodeProto]:
    """Make the nodes that multiply a convolution's input, (B, C, T) or (B, C, T, F), by the mask of padding."""
    after_time = len(_int_attribute(node, "strides")) - 1
    name = f"{_PADDING}_{stage}"
    source, masked = node.input[0], f"{name}_masked"
    node.input[0] = masked
    steps: list[tuple[str, Sequence[str], str]] = [
        ("Shape", [source], "shape"),
        ("Gather", [f"{name}_shape", f"{_PADDING}_two"], "time"),
        ("Range", [f"{_PADDING}_zero", f"{name}_time", f"{_PADDING}_one"], "places"),
        ("Unsqueeze", [lengths, f"{_PADDING}_axis_1"], "lengths"),
        ("Less", [f"{name}_places", f"{name}_lengths"], "own"),
        ("Cast", [f"{name}_own"], "factor"),
        ("Unsqueeze", [f"{name}_factor", f"{_PADDING}_axes_{after_time}"], "factors"),
        ("Mul", [source, f"{name}_factors"], "masked"),
    ]
    made = [_padding_node(op, inputs, f"{name}_{output}") for op, inputs, output in steps]
    made[5].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return made


def _halve_lengths(lengths: str, stage: int) -> tuple[list[NodeProto], str]:
    """Make the nodes that compute lengths after kernel 3, stride 2 and padding 1: ``(n - 1) // 2 + 1``."""
    name, one = f"{_PADDING}_{stage}_halved", f"{_PADDING}_one"
    return [
        _padding_node("Sub", [lengths, one], f"{name}_less"),
        _padding_node("Div", [f"{name}_less", f"{_PADDING}_two"], f"{name}_half"),
        _padding_node("Add", [f"{name}_half", one], name),
    ], name


def _padding_constants() -> list[TensorProto]:
    """Make the constants that the added nodes of the encoder read."""
    values = {"zero": 0, "one": 1, "two": 2, "axis_1": [1], "axes_0": [1], "axes_1": [1, 3]}
    return [numpy_helper.from_array(np.array(value, np.int64), f"{_PADDING}_{name}") for name, value in values.items()]


def _padding_node(op: str, inputs: Sequence[str], output: str) -> NodeProto:
    """Make a node of the encoder, named after its output. All names are complete."""
    return helper.make_node(op, inputs, [output], name=output)


def _int_attribute(node: NodeProto, name: str) -> list[int]:
    """Return the integers of an attribute of a node; empty if the node lacks the attribute."""
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


FEATURES, ENCODED, ENCODED_LENGTHS = "audio_signal", "outputs", "encoded_lengths"
"""The names of the encoder's first input and of its outputs."""
_HEAD_INPUT = "encoder_output"
_PROBE_FRAMES = 101
"""The number of feature frames of the probe, which are one second of audio."""


class OnnxEngine:
    """The engine that runs the published graphs, patched in memory by ``prune_head`` and ``make_padding_exact``.

    Features and the encoder's output stay on the device. Only the output of the patched head is copied to the host, and
    from there back to the device, because ``EngineOutput`` has it there.
    """

    def __init__(
        self, assets: Path, vocabulary: Vocabulary, *, threads: int, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        """Load both graphs.

        Raises:
            UnsupportedGraph: the patches do not fit a graph.
            BadInput: ``device`` is ``cuda`` but ONNX Runtime would compute on the CPU.
        """
        self.name = "onnx-float32"
        self._device, self._mel = device, LogMel(device)
        encoder, head = read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx")
        subsampling = make_padding_exact(encoder.proto, encoder.file)
        prune_head(head.proto, vocabulary.columns)
        self._encoder, self._head = (
            create_onnx_session(graph.proto.SerializeToString(), threads=threads, device=device, weights=graph.weights)
            for graph in (encoder, head)
        )
        self._check_frame_count(encoder.file, subsampling)

    def run(self, audio: DeviceAudio, languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch, as ``Engine`` documents, and wait for the results."""
        features, counts = self._mel(audio.waveforms, audio.lengths)
        encoded, frames = self._encode(features.contiguous(), counts)
        head = self._head.io_binding()
        head.bind_ortvalue_input(_HEAD_INPUT, encoded)
        head.bind_ortvalue_input(FRAMES, frames)
        head.bind_cpu_input(LANGUAGES, languages)
        for output in (LOG_PROBS, BEST_SUMS, BEST_COUNTS):
            head.bind_output(output, "cpu")
        self._head.run_with_iobinding(head)
        log_probs, sums, counted = (torch.from_numpy(value.numpy()).to(self._device) for value in head.get_outputs())
        return EngineOutput(log_probs, frames.numpy(), sums, counted)

    def _encode(self, features: Tensor, counts: Tensor) -> tuple[Any, Any]:
        """Run the encoder on (B, 80, F) features, ``counts`` of which are each item's own.

        Returns:
            The encoder's output and the (B,) int64 numbers of output frames, as ``OrtValue`` on the device.
        """
        binding = self._encoder.io_binding()
        for name, tensor, dtype in ((FEATURES, features, np.float32), (LENGTHS, counts, np.int64)):
            binding.bind_input(name, self._device, 0, dtype, list(tensor.shape), tensor.data_ptr())
        for output in (ENCODED, ENCODED_LENGTHS):
            binding.bind_output(output, self._device)
        if self._device == "cuda":
            torch.cuda.synchronize()  # torch computes the features on another CUDA stream
        self._encoder.run_with_iobinding(binding)
        encoded, lengths = binding.get_outputs()
        return encoded, lengths

    def _check_frame_count(self, file: str, subsampling: int) -> None:
        """Run the encoder once and check its number of frames. One frame off would make every transcript look wrong.

        Raises:
            UnsupportedGraph: the number of frames is not the expected one.
        """
        features = torch.zeros(1, MELS, _PROBE_FRAMES, device=self._device)
        encoded, lengths = self._encode(features, torch.tensor([_PROBE_FRAMES], device=self._device))
        expected, found = (_PROBE_FRAMES - 1) // subsampling + 1, int(lengths.numpy()[0])
        if not expected == found == encoded.shape()[2]:
            raise UnsupportedGraph(file, f"it turns {_PROBE_FRAMES} frames into {found}, not {expected}")

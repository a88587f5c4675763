"""An encoder's graph made indifferent to padding."""

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from validation.models.conformer.graph import UnsupportedGraph

LENGTHS = "length"
"""The graph's input with each item's number of feature frames."""
_PREFIX = "exact_padding"


def make_padding_exact(proto: ModelProto, file: str) -> int:
    """Zero what lies beyond each item's own frames before every further convolution of the subsampling.

    As exported (NeMo 1.23), only the first of the convolutions that halve the frames sees zeros there: bias and ReLU
    make something of them, which the next one mixes into the item's last frames, up to 0.12 in the log-probabilities.
    Attention and the other convolutions are masked as they should be. Items without padding keep their answers bit
    for bit.

    Args:
        proto: the graph, edited in place.
        file: its name, for refusals.

    Returns:
        By how much the frames are subsampled, a power of two.

    Raises:
        UnsupportedGraph: the convolutions are not of the kind that is known here.
    """
    halving = [node for node in proto.graph.node if node.op_type == "Conv" and set(_ints(node, "strides")) == {2}]
    if LENGTHS not in {value.name for value in proto.graph.input} or not halving:
        raise UnsupportedGraph(file, f"it has no input {LENGTHS}, or no convolution that halves the frames")
    for node in halving:
        if set(_ints(node, "kernel_shape")) != {3} or set(_ints(node, "pads")) != {1}:
            raise UnsupportedGraph(file, f"{node.name or node.output[0]} is not of kernel 3 and padding 1")
    proto.graph.initializer.extend(_constants())
    nodes: list[NodeProto] = []
    lengths = LENGTHS
    for node in proto.graph.node:
        if node in halving:
            stage = halving.index(node)
            if stage > 0:
                nodes += _zero_beyond(node, lengths, stage)
            halved, lengths = _halve(lengths, stage)
            nodes += halved
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return int(2 ** len(halving))


def _zero_beyond(node: NodeProto, lengths: str, stage: int) -> list[NodeProto]:
    """Multiply a convolution's input, (B, C, T) or (B, C, T, F), by whether a frame is the item's own."""
    after_time = len(_ints(node, "strides")) - 1
    name = f"{_PREFIX}_{stage}"
    source, masked = node.input[0], f"{name}_masked"
    node.input[0] = masked
    steps: list[tuple[str, Sequence[str], str]] = [
        ("Shape", [source], "shape"),
        ("Gather", [f"{name}_shape", f"{_PREFIX}_two"], "time"),
        ("Range", [f"{_PREFIX}_zero", f"{name}_time", f"{_PREFIX}_one"], "places"),
        ("Unsqueeze", [lengths, f"{_PREFIX}_axis_1"], "lengths"),
        ("Less", [f"{name}_places", f"{name}_lengths"], "own"),
        ("Cast", [f"{name}_own"], "factor"),
        ("Unsqueeze", [f"{name}_factor", f"{_PREFIX}_axes_{after_time}"], "factors"),
        ("Mul", [source, f"{name}_factors"], "masked"),
    ]
    made = [_node(op, inputs, f"{name}_{output}") for op, inputs, output in steps]
    made[5].attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    return made


def _halve(lengths: str, stage: int) -> tuple[list[NodeProto], str]:
    """Follow the lengths through a convolution of kernel 3, stride 2 and padding 1: ``(n - 1) // 2 + 1``."""
    name, one = f"{_PREFIX}_{stage}_halved", f"{_PREFIX}_one"
    return [
        _node("Sub", [lengths, one], f"{name}_less"),
        _node("Div", [f"{name}_less", f"{_PREFIX}_two"], f"{name}_half"),
        _node("Add", [f"{name}_half", one], name),
    ], name


def _constants() -> list[TensorProto]:
    values = {"zero": 0, "one": 1, "two": 2, "axis_1": [1], "axes_0": [1], "axes_1": [1, 3]}
    return [numpy_helper.from_array(np.array(value, np.int64), f"{_PREFIX}_{name}") for name, value in values.items()]


def _node(op: str, inputs: Sequence[str], output: str) -> NodeProto:
    return helper.make_node(op, inputs, [output], name=output)


def _ints(node: NodeProto, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])

"""Load the weights of the exported ONNX graphs into the torch network of IndicConformer.

Each weight is found by its name, or by the path of the node that uses it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from onnx import NodeProto
from torch import Tensor

from validation.hardware.device import DeviceConfig
from validation.models.conformer.graph import Graph, UnsupportedGraph, count_symbols, read_graph
from validation.models.conformer.network import FastConformer, NetworkShape
from validation.models.conformer.torch_engine import TorchEngine
from validation.models.conformer.vocabulary import Vocabulary

_SCALING_NODE = "/pos_enc/Mul"
"""This node exists exactly if the encoder scales its input."""
_OPERATORS = {"Conv", "MatMul"}


@dataclass(frozen=True, slots=True)
class _Use:
    """The weights of a node."""

    weight: str
    bias: str | None
    transposed: bool


def load_torch_engine(assets: Path, vocabulary: Vocabulary, device_config: DeviceConfig) -> TorchEngine:
    """Load the weights of the exported graphs into torch.

    Raises:
        UnsupportedGraph: they are not those of a FastConformer with a CTC head.
    """
    network = build_network(read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx"))
    return TorchEngine(network, vocabulary.columns, device=device_config.device, dtype=device_config.dtype)


def build_network(encoder: Graph, head: Graph) -> FastConformer:
    """Build the network of two exported graphs, with their weights.

    The exporter keeps the names of most parameters. It renames those that it transposed (weights of linear layers) or
    merged (convolutions with the batch norms after them), but it names each node after its module.

    Raises:
        UnsupportedGraph: a weight is missing, has another shape, or has no place in the network.
    """
    uses = _find_uses(encoder)
    shape = _read_shape(encoder, head, uses)
    with torch.device("meta"):
        network = FastConformer(shape)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("head.")}
    sources = {name: _find_source(name, encoder, uses) for name in shapes}
    _refuse_unused(encoder, {source for source, _ in sources.values()})
    weights = {name: _read(encoder, *sources[name], shape) for name, shape in shapes.items()}
    network.load_state_dict(weights | _read_head(head), assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def _find_uses(graph: Graph) -> dict[str, _Use]:
    """Find the weights of every convolution and linear layer, by the path of its module."""
    named = {tensor.name for tensor in graph.proto.graph.initializer}
    uses: dict[str, _Use] = {}
    for node in graph.proto.graph.node:
        weights = [name for name in node.input if name in named]
        if node.op_type in _OPERATORS and weights:
            bias = weights[1] if len(weights) > 1 else None
            uses[_module_path(node)] = _Use(weights[0], bias, node.op_type == "MatMul")
    return uses


def _module_path(node: NodeProto) -> str:
    """Derive a module's path from the name of its node, such as ``/layers.0/conv/depthwise_conv/Conv``."""
    parts = node.name.strip("/").split("/")[:-1]
    # The name of a module in a sequence repeats the sequence: /pre_encode/conv/conv.2/Conv.
    pairs = zip(parts, [*parts[1:], ""], strict=True)
    kept = [part for part, after in pairs if not re.fullmatch(rf"{re.escape(part)}\.\d+", after)]
    return ".".join(kept)


def _find_source(name: str, graph: Graph, uses: Mapping[str, _Use]) -> tuple[str, bool]:
    """Find the initialiser of a parameter, and whether it is transposed there."""
    if any(tensor.name == name for tensor in graph.proto.graph.initializer):
        return name, False
    module, _, parameter = name.rpartition(".")
    use = uses.get(module)
    source = {"weight": use.weight, "bias": use.bias}.get(parameter) if use else None
    if use is None or source is None:
        raise UnsupportedGraph(graph.file, f"it has no weight for {name}")
    return source, use.transposed


def _read(graph: Graph, source: str, transposed: bool, shape: torch.Size) -> Tensor:
    found = graph.read_weight(source)
    if found is None:
        raise UnsupportedGraph(graph.file, f"it has no weight {source}")
    weight = torch.from_numpy(np.array(found.T if transposed else found))
    if weight.shape != shape:
        raise UnsupportedGraph(
            graph.file, f"the weight {source} has the shape {tuple(weight.shape)}, not {tuple(shape)}"
        )
    return weight


def _read_head(head: Graph) -> dict[str, Tensor]:
    """Read the weights of the head, a convolution of kernel 1."""
    (use,) = _find_uses(head).values()
    weight, bias = head.read_weight(use.weight), head.read_weight(use.bias or "")
    if weight is None:
        raise UnsupportedGraph(head.file, f"it has no weight {use.weight}")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return {"head.weight": torch.from_numpy(weight[:, :, 0].copy()), "head.bias": torch.from_numpy(bias.copy())}


def _read_shape(encoder: Graph, head: Graph, uses: Mapping[str, _Use]) -> NetworkShape:
    """Derive the sizes of the network from the shapes of its weights."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in encoder.proto.graph.initializer}
    layers = {path.split(".")[1] for path in uses if path.startswith("layers.")}
    try:
        width, feed_forward = dims[uses["layers.0.feed_forward1.linear1"].weight]
        depthwise = dims[uses["layers.0.conv.depthwise_conv"].weight]
        heads, _ = dims["layers.0.self_attn.pos_bias_u"]
        channels = dims[uses["pre_encode.conv.0"].weight][0]
    except KeyError as missing:
        raise UnsupportedGraph(
            encoder.file, f"it is not a FastConformer as NeMo exports it: it has no {missing}"
        ) from None
    mels = encoder.proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    strided_convs = sum(dims[use.weight][2:] == (3, 3) for use in uses.values())
    scales_input = any(node.name == _SCALING_NODE for node in encoder.proto.graph.node)
    return NetworkShape(
        len(layers),
        width,
        heads,
        feed_forward,
        depthwise[-1],
        channels,
        strided_convs,
        mels,
        count_symbols(head),
        scales_input,
    )


def _refuse_unused(graph: Graph, used: set[str]) -> None:
    """Refuse a graph with weights that the network lacks, such as an adapter or another kind of norm."""
    for tensor in graph.proto.graph.initializer:
        if (
            tensor.name not in used
            and len(tensor.dims) > 0
            and max(tensor.dims) > 1
            and tensor.data_type == tensor.FLOAT
        ):
            raise UnsupportedGraph(graph.file, f"the torch network has no place for its weight {tensor.name}")

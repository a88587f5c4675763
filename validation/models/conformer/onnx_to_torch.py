"""Load the weights of the exported ONNX graphs into the torch network of IndicConformer.

Each weight is found by its name, or by the path of the node that uses it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from validation.hardware.device import DeviceConfig
from validation.models.conformer.graph import Graph, UnsupportedGraph, count_symbols, read_graph
from validation.models.conformer.tokenizer import Vocabulary
from validation.models.conformer.torch_engine import FastConformer, NetworkShape, TorchEngine

_SCALING_NODE = "/pos_enc/Mul"
"""The name of the node by which an encoder scales its input. Encoders that do not scale lack this node."""
_PARAMETERS = {
    "Conv": ("weight", "bias"),
    "MatMul": ("weight",),
    "LayerNormalization": ("weight", "bias"),
    # `Add` is the bias of a linear layer. Before opset 17 a layer norm has ten nodes: its `Mul` and `Add` use weights.
    "Mul": ("weight",),
    "Add": ("bias",),
}
"""The parameters that a node uses, by its operator, in the order of its inputs."""
_POSITION_BIASES = ("pos_bias_u", "pos_bias_v")
"""The biases that an attention module adds to its queries, in this order."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The initialiser that holds a parameter."""

    name: str
    transposed: bool = False
    """Whether the initialiser is the transpose of the parameter."""


_Uses: TypeAlias = Mapping[str, Mapping[str, _Source]]
"""The initialisers that the nodes of each module use: by the module's path, then by the parameter's name."""


def load_torch_engine(assets: Path, vocabulary: Vocabulary, device_config: DeviceConfig) -> TorchEngine:
    """Load the weights of the exported graphs into a torch engine.

    Raises:
        UnsupportedGraph: the graphs are not those of a FastConformer with a CTC head.
    """
    network = build_network(read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx"))
    return TorchEngine(network, vocabulary.columns, device=device_config.device, dtype=device_config.dtype)


def build_network(encoder: Graph, head: Graph) -> FastConformer:
    """Build the torch network from the exported graphs of encoder and head, with their weights.

    The exporter keeps the names of most parameters. It renames those that it transposed (weights of linear layers) or
    merged (convolutions with the batch norms after them, equal parameters), but it names each node after its module.

    Raises:
        UnsupportedGraph: a weight is missing, has another shape, or is not used by the network; or a depthwise
            convolution is causal.
    """
    uses = _find_uses(encoder)
    _refuse_causal(encoder)
    shape = _read_shape(encoder, head, uses)
    with torch.device("meta"):
        network = FastConformer(shape)
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("head.")}
    sources = {name: _find_source(name, encoder, uses) for name in shapes}
    _refuse_unused(encoder, {source.name for source in sources.values()})
    weights = {name: _read_parameter(encoder, sources[name], shape) for name, shape in shapes.items()}
    network.load_state_dict(weights | _read_head(head), assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def _find_uses(graph: Graph) -> _Uses:
    """Find the initialisers of each module's parameters by the nodes that use them.

    The exporter merges equal initialisers, such as those of untrained layer norms. One initialiser keeps its name, and
    ``Identity`` nodes copy it under the other names. Graph optimisers remove these nodes.
    """
    named = {tensor.name: tensor.name for tensor in graph.proto.graph.initializer}
    for node in graph.proto.graph.node:
        if node.op_type == "Identity" and node.input[0] in named:
            named[node.output[0]] = named[node.input[0]]
    uses: dict[str, dict[str, _Source]] = {}
    for node in graph.proto.graph.node:
        sources = [_Source(named[name], node.op_type == "MatMul") for name in node.input if name in named]
        if sources and (parameters := _PARAMETERS.get(node.op_type)):
            own = uses.setdefault(_module_path(node), {})
            if node.op_type == "Add" and "bias" in own:
                parameters = (_POSITION_BIASES[1],)
            for parameter, source in zip(parameters, sources, strict=False):
                own.setdefault(parameter, source)
    for path, own in uses.items():
        if path.endswith(".self_attn") and "bias" in own:
            own[_POSITION_BIASES[0]] = own.pop("bias")
    return uses


def _module_path(node: NodeProto) -> str:
    """Derive a module's path from the name of its node, such as ``/layers.0/conv/depthwise_conv/Conv``."""
    parts = node.name.strip("/").split("/")[:-1]
    # The name of a module in a sequence repeats the sequence: /pre_encode/conv/conv.2/Conv.
    pairs = zip(parts, [*parts[1:], ""], strict=True)
    kept = [part for part, after in pairs if not re.fullmatch(rf"{re.escape(part)}\.\d+", after)]
    return ".".join(kept)


def _find_source(name: str, graph: Graph, uses: _Uses) -> _Source:
    """Find the initialiser of a parameter by the name of the parameter, or by the nodes of the parameter's module."""
    if any(tensor.name == name for tensor in graph.proto.graph.initializer):
        return _Source(name)
    module, _, parameter = name.rpartition(".")
    source = uses.get(module, {}).get(parameter)
    if source is None:
        raise UnsupportedGraph(graph.file, f"it has no weight for {name}")
    return source


def _read_parameter(graph: Graph, source: _Source, shape: torch.Size) -> Tensor:
    """Read a parameter from its initialiser, and check its shape."""
    found = graph.read_weight(source.name)
    if found is None:
        raise UnsupportedGraph(graph.file, f"it has no weight {source.name}")
    weight = torch.from_numpy(np.array(found.T if source.transposed else found))
    if weight.shape != shape:
        raise UnsupportedGraph(
            graph.file, f"the weight {source.name} has the shape {tuple(weight.shape)}, not {tuple(shape)}"
        )
    return weight


def _read_head(head: Graph) -> dict[str, Tensor]:
    """Read the weights of the head, a convolution of kernel 1."""
    (own,) = (own for own in _find_uses(head).values() if "weight" in own)
    weight = head.read_weight(own["weight"].name)
    bias = head.read_weight(own["bias"].name) if "bias" in own else None
    if weight is None:
        raise UnsupportedGraph(head.file, f"it has no weight {own['weight'].name}")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return {"head.weight": torch.from_numpy(weight[:, :, 0].copy()), "head.bias": torch.from_numpy(bias.copy())}


def _read_shape(encoder: Graph, head: Graph, uses: _Uses) -> NetworkShape:
    """Derive the sizes of the network from the shapes of its weights."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in encoder.proto.graph.initializer}
    layers = {path.split(".")[1] for path in uses if path.startswith("layers.")}
    try:
        width, feed_forward = dims[uses["layers.0.feed_forward1.linear1"]["weight"].name]
        depthwise = dims[uses["layers.0.conv.depthwise_conv"]["weight"].name]
        heads, _ = dims[_find_source("layers.0.self_attn.pos_bias_u", encoder, uses).name]
        channels = dims[uses["pre_encode.conv.0"]["weight"].name][0]
    except KeyError as missing:
        raise UnsupportedGraph(
            encoder.file, f"it is not a FastConformer as NeMo exports it: it has no {missing}"
        ) from None
    mels = encoder.proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    strided_convs = sum(dims[own["weight"].name][2:] == (3, 3) for own in uses.values() if "weight" in own)
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


def _refuse_causal(graph: Graph) -> None:
    """Check that depthwise convolutions reach equally far to both sides. Those of streaming models do not.

    NeMo pads in a node before the convolution; its older releases pad in the convolution itself.

    Raises:
        UnsupportedGraph: a convolution pads both sides differently.
    """
    producers = {output: node for node in graph.proto.graph.node for output in node.output}
    for node in graph.proto.graph.node:
        if node.op_type != "Conv" or not _module_path(node).endswith(".depthwise_conv"):
            continue
        ints = {attribute.name: list(attribute.ints) for attribute in node.attribute}
        (kernel,), pads = ints["kernel_shape"], np.array(ints.get("pads", [0, 0]))
        before = producers.get(node.input[0])
        if before is not None and before.op_type == "Pad":
            pads = pads + _compute_constant(graph, before.input[1], producers)[[2, 5]]
        if pads.tolist() != [kernel // 2, kernel // 2]:
            found = f"{node.name} has a kernel of {kernel} frames and pads {pads.tolist()}"
            raise UnsupportedGraph(graph.file, f"{found}: causal convolutions are not known")


def _compute_constant(graph: Graph, name: str, producers: Mapping[str, NodeProto]) -> NDArray[np.int64]:
    """Compute an integer tensor of a graph that depends only on constants."""
    wanted, needed = [name], set()
    while wanted:
        if (node := producers.get(wanted.pop())) is not None and node.name not in needed:
            needed.add(node.name)
            wanted += node.input
    nodes = [node for node in graph.proto.graph.node if node.name in needed]
    inputs = {source for node in nodes for source in node.input}
    tensors = [tensor for tensor in graph.proto.graph.initializer if tensor.name in inputs | {name}]
    output = helper.make_tensor_value_info(name, TensorProto.INT64, None)
    constants = helper.make_graph(nodes, "constants", [], [output], tensors)
    model = helper.make_model(constants, opset_imports=graph.proto.opset_import)
    (computed,) = ReferenceEvaluator(model).run(None, {})
    return np.asarray(computed)


def _refuse_unused(graph: Graph, used: set[str]) -> None:
    """Check that the network uses every weight of a graph: every float initialiser of more than one element.

    An unused weight may be an adapter or another kind of norm.

    Raises:
        UnsupportedGraph: the network does not use a weight.
    """
    for tensor in graph.proto.graph.initializer:
        if (
            tensor.name not in used
            and len(tensor.dims) > 0
            and max(tensor.dims) > 1
            and tensor.data_type == tensor.FLOAT
        ):
            raise UnsupportedGraph(graph.file, f"the torch network has no place for its weight {tensor.name}")

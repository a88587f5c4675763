"""Read and write ONNX graphs with external weights, in one file or in many files, behind symbolic links or not."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from validation.errors import BadInput
from validation.models.weights_folder import COMMIT_NAME, find_commit

CTC_FILES = ("assets/ctc_decoder.onnx", "assets/vocab.json", "assets/language_masks.json", "config.json")
"""The files of the CTC model, except the encoder."""
FRONT_END_FILE = "assets/preprocessor.ts"
"""The published front end, in TorchScript. Only ``vfleet weights check --deep`` loads it, as the reference."""
MIN_OPSET = 13
"""The oldest opset that the patches support. In older opsets some added operators take their axes as attributes."""
_ALIGNMENT_BYTES = 4096
"""The alignment of tensors in a weight file, so that the file can be mapped into memory."""


class UnsupportedGraph(BadInput):
    """This code cannot run a graph."""

    def __init__(self, file: str, fault: str) -> None:
        self.file, self.fault = file, fault
        super().__init__(f"{file}: {fault}")


@dataclass(frozen=True)
class Graph:
    """An ONNX graph and its external weights."""

    file: str
    proto: ModelProto
    """The graph. It only references the external weights, and holds all other weights."""
    weights: Mapping[str, NDArray[np.generic]]
    """The external weights by the name of their initialiser. They are mapped from their files and read on use."""

    def read_weight(self, name: str) -> NDArray[np.generic] | None:
        """Read the weight of an initialiser; return None if the graph has no initialiser of that name."""
        if name in self.weights:
            return self.weights[name]
        found = (tensor for tensor in self.proto.graph.initializer if tensor.name == name)
        return next((numpy_helper.to_array(tensor) for tensor in found), None)


def read_graph(path: Path) -> Graph:
    """Read a graph. Its external weights are mapped into memory and not yet read.

    The reader of the library ``onnx`` refuses symbolic links, which download tools create. It also does not load the
    external data of attributes.

    Raises:
        UnsupportedGraph: a weight lies outside the graph's folder, or its file is too short, or the graph is too old.
    """
    proto = onnx.load(path, load_external_data=False)
    _require_opset(path, proto)
    weights: dict[str, NDArray[np.generic]] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            weights[tensor.name] = _map_tensor(path, tensor)
    for tensor in _inner_tensors(proto.graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor.CopyFrom(numpy_helper.from_array(_map_tensor(path, tensor), tensor.name))
    return Graph(path.name, proto, weights)


def count_symbols(head: Graph) -> int:
    """Count the outputs of a CTC head, which is a convolution of kernel 1.

    Raises:
        UnsupportedGraph: the graph has no such convolution, or more than one.
    """
    widths = [tensor.dims[0] for tensor in head.proto.graph.initializer if tuple(tensor.dims[2:]) == (1,)]
    if len(widths) != 1:
        raise UnsupportedGraph(head.file, f"it has {len(widths)} convolutions of kernel 1; a CTC head has one")
    return int(widths[0])


def write_graph(graph: Graph, path: Path) -> None:
    """Write a graph as two files: the graph, and ``<name>.data`` with all external weights, if there are any."""
    proto = ModelProto()
    proto.CopyFrom(graph.proto)
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") as opened:
        for tensor in proto.graph.initializer:
            if tensor.name in graph.weights:
                opened.seek(-(-opened.tell() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
                _point_at(tensor, data.name, opened.tell(), graph.weights[tensor.name].nbytes)
                opened.write(np.ascontiguousarray(graph.weights[tensor.name]).data)
    if not graph.weights:
        data.unlink()
    path.write_bytes(proto.SerializeToString())


def consolidate_repository(source: Path, target: Path) -> None:
    """Copy the CTC model from a download of IndicConformer's repository, with the encoder's weights in one file.

    The graphs of the transducer are left out. Weights keep their bytes, so all answers stay the same. Both layouts
    load, but fewer than ten files are quicker to copy to many machines than four hundred. Symbolic links are followed.

    Args:
        source: a download of the repository.
        target: a folder that does not exist yet.
    """
    (target / "assets").mkdir(parents=True)
    for name in CTC_FILES:
        shutil.copyfile(source / name, target / name)
    if (source / FRONT_END_FILE).is_file():
        shutil.copyfile(source / FRONT_END_FILE, target / FRONT_END_FILE)
    if commit := find_commit(source):
        (target / COMMIT_NAME).write_text(f"{commit}\n")
    write_graph(read_graph(source / "assets/encoder.onnx"), target / "assets/encoder.onnx")


def _inner_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Iterate over the tensors in the attributes of a graph's nodes, including those in subgraphs."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [attribute.g, *attribute.graphs]:
                yield from inner.initializer
                yield from _inner_tensors(inner)


def _map_tensor(path: Path, tensor: TensorProto) -> NDArray[np.generic]:
    """Map the external data of a tensor into memory; check their path and size."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(where["location"])
    if location.is_absolute() or ".." in location.parts:
        raise UnsupportedGraph(path.name, f"the weight {tensor.name} lies at {location}, outside its folder")
    dtype, shape = helper.tensor_dtype_to_np_dtype(tensor.data_type), tuple(tensor.dims)
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    offset = int(where.get("offset", 0))
    if (path.parent / location).stat().st_size < offset + needed:
        raise UnsupportedGraph(path.name, f"{location} is too short for the weight {tensor.name} of {needed} bytes")
    # The mode "c" is copy on write: ONNX Runtime requires writable memory, but it does not write to the weights.
    return np.memmap(path.parent / location, dtype, "c", offset, shape) if needed else np.zeros(shape, dtype)


def _point_at(tensor: TensorProto, location: str, offset: int, size_bytes: int) -> None:
    """Make a tensor refer to its data in a weight file, at an offset in bytes."""
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(size_bytes))):
        tensor.external_data.add(key=key, value=value)


def _require_opset(path: Path, proto: ModelProto) -> None:
    """Raise ``UnsupportedGraph`` if the opset of a graph is older than ``MIN_OPSET``."""
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < MIN_OPSET:
        raise UnsupportedGraph(path.name, f"it is of opset {opset}; {MIN_OPSET} or later is needed")

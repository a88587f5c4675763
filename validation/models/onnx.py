"""ONNX Runtime sessions with the same options for every model."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from validation.errors import BadInput

_CUDA_PROVIDER = (
    "CUDAExecutionProvider",
    {
        # The default, exhaustive search, tunes again for every shape: half a second and more each.
        "cudnn_conv_algo_search": "HEURISTIC",
        # On by default, and then float32 has 10 bits of the fraction. Consumer GPUs are no faster with it.
        "use_tf32": "0",
        # By default the arena doubles, and torch cannot use what it took of the same GPU's memory.
        "arena_extend_strategy": "kSameAsRequested",
    },
)


def create_onnx_session(
    graph: bytes,
    *,
    threads: int,
    device: Literal["cpu", "cuda"] = "cpu",
    weights: Mapping[str, NDArray[np.generic]] | None = None,
) -> Any:
    """Create a session whose idle threads do not spin, so that they leave the cores to decoding.

    Args:
        graph: the whole ONNX file, except ``weights``.
        threads: threads per call on a CPU.
        device: where to compute.
        weights: values of the initialisers that the graph calls external, by name. They may be mapped files.

    Raises:
        BadInput: a GPU is asked for and ONNX Runtime has none; without this check it would compute on the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; the warnings of these graphs are about unused initialisers
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    providers = ["CPUExecutionProvider"] if device == "cpu" else [_CUDA_PROVIDER, "CPUExecutionProvider"]
    _require_gpu(device, onnxruntime.get_available_providers())
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    _require_gpu(device, session.get_providers())
    session.disable_fallback()  # after a GPU error it would otherwise be created again on the CPU, for good
    return session


def _require_gpu(device: str, providers: list[str]) -> None:
    if device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BadInput(
            f"ONNX Runtime {onnxruntime.__version__} computes with {', '.join(providers)}, not on the GPU: "
            "pip install 'validation-fleet[gpu]' and remove the package onnxruntime, which overwrites it"
        )

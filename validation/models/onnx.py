"""Create ONNX Runtime sessions with the same options for every model."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from validation.errors import BadInput

_CUDA_OPTIONS = {
    # The default is an exhaustive search, which takes half a second or more for every new shape.
    "cudnn_conv_algo_search": "HEURISTIC",
    # By default the arena doubles its size, and torch cannot use GPU memory that the arena holds.
    "arena_extend_strategy": "kSameAsRequested",
}


def create_onnx_session(
    graph: bytes,
    *,
    threads: int,
    device: Literal["cpu", "cuda"] = "cpu",
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    tf32: bool = False,
) -> Any:
    """Create a session. Its idle threads do not spin, so that audio decoding can use the cores.

    Args:
        graph: the content of the ONNX file, without external weights.
        threads: the number of CPU threads per call.
        device: the device to compute on.
        weights: the values of the graph's external initialisers, by name. The arrays may be memory-mapped files.
        tf32: whether a GPU may multiply in TF32, which keeps ten fraction bits.

    Raises:
        BadInput: ``device`` is ``cuda`` but ONNX Runtime has no CUDA provider. Without this check the session would
            compute on the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; these graphs cause warnings about unused initialisers
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    cuda = ("CUDAExecutionProvider", _CUDA_OPTIONS | {"use_tf32": str(int(tf32))})  # ONNX Runtime's default is 1
    providers = ["CPUExecutionProvider"] if device == "cpu" else [cuda, "CPUExecutionProvider"]
    _require_gpu(device, onnxruntime.get_available_providers())
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    _require_gpu(device, session.get_providers())
    session.disable_fallback()  # otherwise a GPU error makes ONNX Runtime recreate the session on the CPU
    return session


def _require_gpu(device: str, providers: list[str]) -> None:
    """Raise ``BadInput`` if ``device`` is ``cuda`` and the CUDA provider is not among the providers."""
    if device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BadInput(
            f"ONNX Runtime {onnxruntime.__version__} computes with {', '.join(providers)}, not on the GPU: "
            "pip install 'validation-fleet[gpu]' and remove the package onnxruntime, which overwrites it"
        )

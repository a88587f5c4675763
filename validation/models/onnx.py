"""ONNX Runtime sessions, set up alike for every model."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from validation.errors import BadInput

_ON_CARD = (
    "CUDAExecutionProvider",
    {
        # Exhaustive search, the default, tunes anew for every shape: half a second and more each.
        "cudnn_conv_algo_search": "HEURISTIC",
        # By default it is on, and float32 would not mean float32. Consumer cards are no faster with it.
        "use_tf32": "0",
        # By default the arena doubles, and what it took stays lost to torch on the same card.
        "arena_extend_strategy": "kSameAsRequested",
    },
)


def open_session(
    graph: bytes,
    *,
    threads: int,
    device: Literal["cpu", "cuda"] = "cpu",
    weights: Mapping[str, NDArray[np.generic]] | None = None,
) -> Any:
    """Open a session that leaves cores alone while it has nothing to do.

    Args:
        graph: the whole ONNX file, but for ``weights``.
        threads: threads to compute one call with on a CPU.
        device: where to compute.
        weights: initialisers that the graph calls external, by name. They may be maps of files.

    Raises:
        BadInput: a card is asked for and cannot be had. ONNX Runtime would silently compute on the CPU.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings of these graphs are about unused initialisers
    # Idle threads would otherwise spin, and take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
        options.add_external_initializers(list(weights), values)
    providers = ["CPUExecutionProvider"] if device == "cpu" else [_ON_CARD, "CPUExecutionProvider"]
    _require_card(device, onnxruntime.get_available_providers())
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    _require_card(device, session.get_providers())
    session.disable_fallback()  # at a failure of the card it would be made anew on the CPU, for good
    return session


def _require_card(device: str, providers: list[str]) -> None:
    if device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BadInput(
            f"ONNX Runtime {onnxruntime.__version__} computes with {', '.join(providers)} here, not on the card: "
            "pip install 'validation-fleet[gpu]', without onnxruntime beside it"
        )

"""ONNX Runtime sessions, set up alike for every model."""

from typing import Any

import onnxruntime


def open_session(graph: bytes, *, threads: int) -> Any:
    """Open a session on the CPU that leaves cores alone while it has nothing to do.

    Args:
        graph: the whole ONNX file.
        threads: threads to compute one call with.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; warnings of these graphs are about unused initialisers
    # Idle threads would otherwise spin, and take the cores from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

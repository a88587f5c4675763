"""The head's graph, made to say no more than is asked: one language's log-probabilities, and how well each fits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

_PREFIX = "narrow_"
"""Of all names here, so that none meets one of the graph's own."""
FRAMES, LANGUAGES = f"{_PREFIX}frames", f"{_PREFIX}languages"
"""Inputs that the edit adds, both (B,) int64: each item's own frames, and the index of its language."""
LOG_PROBS, BEST_SUMS, BEST_COUNTS = f"{_PREFIX}log_probs", f"{_PREFIX}best_sums", f"{_PREFIX}best_counts"
"""Outputs that the edit puts in place of the logits; ``EngineOutput`` says what they are."""


def prune_head(proto: ModelProto, columns: NDArray[np.int64]) -> None:
    """Put the choice of language and the log-softmax into the graph.

    So a frame takes 257 numbers off the device instead of 5,633.

    Args:
        proto: the head, from the encoder's output to logits (B, T, W); edited in place.
        columns: (L, K) the columns of each language, the blank's last.
    """
    graph = proto.graph
    logits, (count, width) = graph.output[0].name, columns.shape
    graph.initializer.extend(_constants(columns))
    graph.node.append(helper.make_node("Identity", [logits], [f"{_PREFIX}logits"], name=f"{_PREFIX}logits"))
    graph.node.extend(_own_log_probs())
    graph.node.extend(_language_scores())
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, ["B"]) for name in (FRAMES, LANGUAGES))
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info(LOG_PROBS, TensorProto.FLOAT, ["B", "T", width]),
            helper.make_tensor_value_info(BEST_SUMS, TensorProto.FLOAT, ["B", count]),
            helper.make_tensor_value_info(BEST_COUNTS, TensorProto.FLOAT, ["B", count]),
        ]
    )


def _own_log_probs() -> list[NodeProto]:
    """Take each item's own columns, then their log-softmax."""
    return [
        _node("Gather", ["table", "languages"], "own_columns", axis=0),
        _node("Unsqueeze", ["own_columns", "axis_1"], "own_columns_a_frame"),
        _node("Shape", ["logits"], "logits_shape"),
        _node("Slice", ["logits_shape", "axis_0", "axis_2"], "batch_and_time"),
        _node("Concat", ["batch_and_time", "width"], "own_shape", axis=0),
        _node("Expand", ["own_columns_a_frame", "own_shape"], "own_places"),
        _node("GatherElements", ["logits", "own_places"], "own_logits", axis=2),
        _node("LogSoftmax", ["own_logits"], "log_probs", axis=2),
    ]


def _language_scores() -> list[NodeProto]:
    """Sum, for each language, the log-probabilities of the tokens that it would write.

    Such a token is a frame's likeliest symbol that is neither the blank nor the last frame's again.
    """
    return [
        _node("Gather", ["logits", "all_columns"], "all_logits", axis=2),
        _node("Reshape", ["all_logits", "by_language"], "language_logits"),
        _node("LogSoftmax", ["language_logits"], "language_log_probs", axis=3),
        _node("TopK", ["language_log_probs", "axis_1"], "top_lp", "top_symbol", axis=3),
        _node("Reshape", ["top_lp", "without_symbols"], "best_lp"),
        _node("Reshape", ["top_symbol", "without_symbols"], "best_symbol"),
        # As numbers that every provider can pad and compare.
        _node("Cast", ["best_symbol"], "best", to=TensorProto.FLOAT),
        _node("Pad", ["best", "one_frame_later", "no_symbol"], "before"),
        _node("Equal", ["best", "before"], "repeated"),
        _node("Equal", ["best", "blank"], "silent"),
        _node("Or", ["repeated", "silent"], "unwritten"),
        _node("Not", ["unwritten"], "written"),
        _node("Gather", ["logits_shape", "one"], "time", axis=0),
        _node("Range", ["zero", "time", "one"], "places"),
        _node("Unsqueeze", ["frames", "axis_1"], "frames_a_row"),
        _node("Less", ["places", "frames_a_row"], "real"),
        _node("Unsqueeze", ["real", "axis_2"], "real_a_language"),
        _node("And", ["written", "real_a_language"], "counted"),
        _node("Cast", ["counted"], "weight", to=TensorProto.FLOAT),
        _node("Mul", ["best_lp", "weight"], "weighted"),
        _node("ReduceSum", ["weighted", "axis_1"], "best_sums", keepdims=0),
        _node("ReduceSum", ["weight", "axis_1"], "best_counts", keepdims=0),
    ]


def _constants(columns: NDArray[np.int64]) -> list[TensorProto]:
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
        *(numpy_helper.from_array(np.array(value, np.int64), f"{_PREFIX}{name}") for name, value in whole.items()),
        *(numpy_helper.from_array(np.array(value, np.float32), f"{_PREFIX}{name}") for name, value in real.items()),
    ]


def _node(op: str, inputs: Sequence[str], *outputs: str, **attributes: Any) -> NodeProto:
    own = [f"{_PREFIX}{name}" for name in outputs]
    return helper.make_node(op, [f"{_PREFIX}{name}" for name in inputs], own, name=own[0], **attributes)

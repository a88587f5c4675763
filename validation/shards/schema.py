"""The columns of a shard, from the list in FORMAT.md and the models of a suite."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from validation.domain import Column, ColumnType
from validation.errors import BadInput
from validation.scoring.signals import DERIVED_SIGNALS

SCHEMA_VERSION = 1
"""Counts changes of columns or of their meaning; see FORMAT.md, Versions."""

IDENTITY = (
    Column("video_id", "str", "text", "The video, as in `video_queue`."),
    Column("segment_index", "int", "position", "Place of the segment in its tar, from 0, without gaps."),
    Column("segment", "str", "text", "The tar's own name for the segment, unique within the video."),
    Column("language", "str", "text", "The declared language as the tar or the queue spells it."),
    Column("speaker", "str", "text", "The speaker's label, where the tar has one."),
    Column("start_s", "float", "seconds", "Where the segment begins in its video."),
    Column("end_s", "float", "seconds", "Where it ends."),
    Column("text", "str", "text", "The stored transcript, unchanged."),
    Column("fault", "str", "text", "Why the audio could not be decoded, as `kind: message`; null if it could."),
)
_VERDICT = Column("verdict", "str", "verdict", "`accept`, `review` or `reject`, by `rules_version`.")
_REASONS = "Why it is not accepted, in the order of the rules; empty exactly if it is."
_NEVER_NULL = frozenset({"video_id", "segment_index", "segment", "text", "text_normalised", "verdict"})

_TYPES: dict[ColumnType, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "str": pa.string(),
    "bool": pa.bool_(),
}


def shard_columns(models: Mapping[str, Sequence[Column]]) -> tuple[Column, ...]:
    """List every column of a suite's shards but ``reasons``, in their order: what rules may read.

    Args:
        models: the columns of each model under its name, in the suite's order.

    Raises:
        BadInput: two columns would have the same name.
    """
    columns = (*IDENTITY, *DERIVED_SIGNALS, *_model_columns(models), _VERDICT)
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"shard column {twice[0]} would stand twice; rename the model or its column")
    return columns


def shard_schema(models: Mapping[str, Sequence[Column]]) -> pa.Schema:
    """Build the Arrow schema of a suite's shards. Raises as ``shard_columns`` does."""
    fields = [_field(column) for column in shard_columns(models)]
    reasons = pa.field(
        "reasons",
        pa.list_(pa.field("item", pa.string(), nullable=False)),
        nullable=False,
        metadata={"unit": "reason", "description": _REASONS},
    )
    return pa.schema([*fields, reasons])


def _model_columns(models: Mapping[str, Sequence[Column]]) -> list[Column]:
    return [
        Column(f"{model}_{column.name}", column.type, column.unit, column.description)
        for model, columns in models.items()
        for column in (*columns, _fault_column(model))
    ]


def _fault_column(model: str) -> Column:
    return Column("fault", "str", "text", f"Why {model} did not answer, as `kind: message`; null exactly if it did.")


def _field(column: Column) -> pa.Field:
    return pa.field(
        column.name,
        _TYPES[column.type],
        nullable=column.name not in _NEVER_NULL,
        metadata={"unit": column.unit, "description": column.description},
    )

"""The columns of a shard, the provenance in the metadata of its file, and the errors. FORMAT.md defines them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa
from pydantic import TypeAdapter

from validation.domain import Column, ColumnType
from validation.errors import BadInput, Permanent
from validation.scoring.signals import DERIVED_SIGNALS
from validation.scoring.text import NORMALISATION_VERSION


class ShardRefused(Permanent):
    """Rows break a rule of the format, so no shard was written. ``place`` names the row, the video or the column."""

    def __init__(self, place: str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"no shard was written: {place}: {problem}")


class ShardCorrupt(Permanent):
    """A shard or its manifest is unreadable, breaks the format, or differs from what describes it.

    A shard is described by its manifest, and by the ledger or the catalogue. ``fact`` is the property that is wrong,
    such as ``sha256``; ``expected`` and ``found`` are its two values.
    """

    def __init__(self, key: str, fact: str, *, expected: object, found: object) -> None:
        self.key, self.fact, self.expected, self.found = key, fact, expected, found
        super().__init__(f"{key}: {fact} should be {expected}, is {found}")


SCHEMA_VERSION = 2
"""The version of the columns and their meaning. FORMAT.md, section Versions, lists the changes."""

METADATA_KEY = b"validation_fleet"
"""The key of the provenance, as JSON, in a parquet file's metadata."""

AUDIO_PLACE = (
    Column("layout", "str", "text", "The layout of the tar: `pairs`, `indexed`, `sliced` or `shar`."),
    Column("audio_member", "str", "text", "The file of the tar that holds the audio; null if there is none."),
    Column("audio_offset_s", "float", "seconds", "Where a slice begins in its file; null if the segment is the file."),
)
"""The columns that say where the audio of a segment lies in the tar of its video."""

IDENTITY = (
    Column("video_id", "str", "text", "The video, as in `video_queue`."),
    Column("segment_index", "int", "position", "Place of the segment in its tar, from 0, without gaps."),
    Column("segment", "str", "text", "The tar's own name for the segment, unique within the video."),
    Column("language", "str", "text", "The declared language as the tar or the queue spells it."),
    Column("speaker", "str", "text", "The speaker's label, where the tar has one."),
    Column("start_s", "float", "seconds", "Where the segment begins in its video."),
    Column("end_s", "float", "seconds", "Where the segment ends in its video."),
    *AUDIO_PLACE,
    Column("text", "str", "text", "The stored transcript, unchanged."),
    Column("fault", "str", "text", "Why the audio could not be decoded, as `kind: message`; null if it could."),
)
"""The columns that identify a segment and its audio, with what its tar says about it."""
_VERDICT = Column("verdict", "str", "verdict", "`accept`, `review` or `reject`, by `rules_version`.")
_MARGIN = Column(
    "margin", "float", "units", "Signed distance to the nearest limit: at most 0 if accepted, else at least 0."
)
_REASONS = "Why the segment is not accepted, in the order of the rules; empty exactly if it is accepted."
NEVER_NULL = frozenset({"video_id", "segment_index", "segment", "text", "text_normalised", "verdict"})
"""Columns without null, besides ``reasons``."""
NEVER_NEGATIVE = frozenset({"start_s", "end_s", "duration_s"})
"""Numeric columns whose values are at least 0."""

_TYPES: dict[ColumnType, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "str": pa.string(),
    "bool": pa.bool_(),
}


def shard_columns(models: Mapping[str, Sequence[Column]]) -> tuple[Column, ...]:
    """Return all columns of a suite's shards except ``reasons``, in the order of the shard.

    Args:
        models: the columns of each model, by the model's name, in the order of the suite.

    Raises:
        BadInput: two columns would have the same name.
    """
    columns = (*IDENTITY, *DERIVED_SIGNALS, *_model_columns(models), _VERDICT, _MARGIN)
    names = [column.name for column in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"shard column {twice[0]} would exist twice; rename the model or its column")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardProvenance:
    """The suite, revisions and rules that the numbers of a shard depend on, and the run that wrote it."""

    suite: str
    model_revisions: Mapping[str, str]
    rules_version: str
    chunk_id: UUID
    worker_id: str
    flow_run_id: UUID | None
    """None for a chunk that was validated outside Prefect."""
    policy: str = "all"
    """Which models scored a segment: ``all``, or the name of a cascade that skips some models for some segments."""
    schema_version: int = SCHEMA_VERSION
    normalisation_version: str = NORMALISATION_VERSION

    @property
    def basis(self) -> Mapping[str, str]:
        """The versions that results depend on besides the models' revisions: see ``results_basis``."""
        return results_basis(self.rules_version, self.policy, self.normalisation_version)


PROVENANCE_JSON = TypeAdapter(ShardProvenance)
"""Reads and writes a provenance as JSON."""


def results_basis(
    rules_version: str, policy: str, normalisation_version: str = NORMALISATION_VERSION
) -> Mapping[str, str]:
    """Return the versions that results depend on besides the models' revisions, by name.

    Correct boxes with an equal basis and equal model revisions give the same answers, up to rounding.
    """
    return {"rules_version": rules_version, "normalisation_version": normalisation_version, "policy": policy}


def _model_columns(models: Mapping[str, Sequence[Column]]) -> list[Column]:
    """Return the columns of all models as they are named in a shard, each model's fault column last."""
    return [
        Column(f"{model}_{column.name}", column.type, column.unit, column.description)
        for model, columns in models.items()
        for column in (*columns, _fault_column(model))
    ]


def _fault_column(model: str) -> Column:
    return Column("fault", "str", "text", f"Why {model} did not answer, as `kind: message`; null exactly if it did.")


def _field(column: Column) -> pa.Field:
    """Return the Arrow field of a column."""
    return pa.field(
        column.name,
        _TYPES[column.type],
        nullable=column.name not in NEVER_NULL,
        metadata={"unit": column.unit, "description": column.description},
    )

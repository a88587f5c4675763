"""Encode rows as the parquet bytes of a shard, and refuse rows that break the format."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from numbers import Integral, Real
from operator import itemgetter
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from validation.domain import MAX_NUMBER, Scalar
from validation.shards.schema import METADATA_KEY, NEVER_NEGATIVE, PROVENANCE_JSON, ShardProvenance, ShardRefused

Row: TypeAlias = Mapping[str, Scalar | Sequence[str]]
"""The values of one segment by column name. A missing column means null. The columns ``video_id``, ``segment_index``
and ``segment`` must not be missing."""

ROW_GROUP_ROWS = 1000
"""Minimum number of rows of a row group; the group ends at the end of a video. Smaller groups make the file larger: by
70 % with 100 rows and by 9 % with 1000 rows, compared with 5000 rows."""

_PYTHON_TYPES: Mapping[pa.DataType, type] = {
    pa.float64(): Real,
    pa.int64(): Integral,
    pa.string(): str,
    pa.bool_(): bool,
}
"""The Python type that the values of a column must have, by its Arrow type. Arrow would convert values of other types.
NumPy's numbers are instances of these types too."""

_ZSTD_LEVEL = 9
"""Files are 10 % smaller than with pyarrow's level 1. The cost is 0.1 s per shard."""


def encode_shard(rows: Iterable[Row], schema: pa.Schema, provenance: ShardProvenance) -> bytes:
    """Encode rows as one parquet file as FORMAT.md defines it. The same rows in any order give the same bytes.

    Args:
        rows: one row for every segment of every validated video of the chunk.
        schema: the result of ``shard_schema`` for the suite that scored the segments.
        provenance: the provenance, which is stored in the metadata of the file.

    Raises:
        ShardRefused: the rows break the format; the message names the row, the video or the column.
    """
    ordered = sorted(rows, key=itemgetter("video_id", "segment_index"))
    _check_identity(ordered)
    return encode_table(_build_table(ordered, schema), provenance)


def encode_table(table: pa.Table, provenance: ShardProvenance) -> bytes:
    """Return a table as the bytes of a parquet file. The rows must be sorted and checked as FORMAT.md defines."""
    table = table.replace_schema_metadata({METADATA_KEY: PROVENANCE_JSON.dump_json(provenance)})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[field.name for field in table.schema if pa.types.is_string(field.type)],
        sorting_columns=pq.SortingColumn.from_ordering(
            table.schema, [("video_id", "ascending"), ("segment_index", "ascending")]
        ),
    ) as writer:
        for start, stop in _row_group_bounds(table["video_id"].to_pylist()):
            writer.write_table(table.slice(start, stop - start))
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def _check_identity(ordered: Sequence[Row]) -> None:
    """Raise ``ShardRefused`` for no rows, or for a missing or repeated segment or a repeated name in a video."""
    if not ordered:
        raise ShardRefused("rows", "there are none")
    for video_id, group in groupby(ordered, key=itemgetter("video_id")):
        names: set[object] = set()
        for expected, row in enumerate(group):
            if row["segment_index"] != expected:
                raise ShardRefused(f"video {video_id}", f"segment {expected} is missing or repeated")
            if row["segment"] in names:
                raise ShardRefused(f"video {video_id}", f"two segments are called {row['segment']!r}")
            names.add(row["segment"])


def _row_group_bounds(video_ids: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the first row of each row group and the row after its last.

    A group ends with a video, after at least ``ROW_GROUP_ROWS`` rows; the last group may be smaller.

    Args:
        video_ids: the video of each row, sorted.
    """
    start = stop = 0
    for _, group in groupby(video_ids):
        stop += sum(1 for _ in group)
        if stop - start >= ROW_GROUP_ROWS:
            yield start, stop
            start = stop
    if stop > start:
        yield start, stop


def _build_table(ordered: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Return the rows as a table with the columns of the schema. Raise ``ShardRefused`` for an unknown column."""
    known = set(schema.names)
    for row in ordered:
        if unknown := row.keys() - known:
            raise ShardRefused(_describe_row(row), f"the schema has no column {min(unknown)}")
    return pa.table([_build_column(ordered, field) for field in schema], schema=schema)


def _build_column(ordered: Sequence[Row], field: pa.Field) -> pa.Array:
    """Return the values of one column. Raise ``ShardRefused`` for a value that the format forbids."""
    values = [row.get(field.name) for row in ordered]
    _check_types(values, ordered, field)
    if pa.types.is_string(field.type):
        values = [_escape_surrogates(value) if isinstance(value, str) else value for value in values]
    try:
        column = pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise ShardRefused(f"column {field.name}", str(error)) from None
    if not field.nullable:
        _refuse_where(pc.is_null(column), ordered, f"{field.name} is null")
    if pa.types.is_floating(field.type):
        _refuse_where(pc.invert(pc.is_finite(column)), ordered, f"{field.name} is not finite: unknown is null")
        too_large = pc.greater(pc.abs(column), MAX_NUMBER)
        _refuse_where(too_large, ordered, f"{field.name} is larger than {MAX_NUMBER:g}")
    if field.name in NEVER_NEGATIVE:
        _refuse_where(pc.less(column, 0.0), ordered, f"{field.name} is negative")
    return column


def _check_types(values: Sequence[object], ordered: Sequence[Row], field: pa.Field) -> None:
    """Raise ``ShardRefused`` for a value that Arrow would convert silently, such as 1.5 or True for an integer."""
    expected = _PYTHON_TYPES.get(field.type)
    if expected is None:
        return
    for value, row in zip(values, ordered, strict=True):
        if value is not None and not (isinstance(value, expected) and isinstance(value, bool) is (expected is bool)):
            raise ShardRefused(_describe_row(row), f"{field.name} is {value!r}, not of type {field.type}")


def _refuse_where(wrong: pa.Array, ordered: Sequence[Row], problem: str) -> None:
    """Raise ``ShardRefused`` for the first row for which ``wrong`` is true."""
    place = pc.index(wrong, value=True).as_py()
    if place >= 0:
        raise ShardRefused(_describe_row(ordered[place]), problem)


def _escape_surrogates(text: str) -> str:
    r"""Replace lone surrogates (from broken names and JSON), which are not valid Unicode, by escapes (``\udcff``)."""
    return text.encode("utf-8", "backslashreplace").decode()


def _describe_row(row: Row) -> str:
    return f"video {row['video_id']} segment {row['segment_index']}"

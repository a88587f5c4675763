"""Shards are read alike by this code, polars, DuckDB and pandas."""

from dataclasses import replace
from io import BytesIO

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from tests.support.sample_shards import MODELS, PROVENANCE, SCHEMA, in_order, make_video, shard_rows
from validation.errors import BadInput
from validation.shards.reader import read_provenance, read_shard, scan_shards
from validation.shards.schema import METADATA_KEY, SCHEMA_VERSION, ShardCorrupt, shard_columns
from validation.shards.writer import encode_shard


@given(shard_rows())
@settings(max_examples=25, deadline=None)
def test_polars_reads_the_written_rows(rows):
    """Values, nulls, lists and order are the same."""
    assert read_shard(encode_shard(rows, SCHEMA, PROVENANCE)).to_dicts() == in_order(rows)


@given(rows=shard_rows())
@settings(max_examples=12, deadline=None)
def test_duckdb_and_pandas_read_the_same_as_polars(rows, tmp_path_factory):
    """A shard is plain parquet: three engines agree on every value and on what is null."""
    path = tmp_path_factory.mktemp("shard") / "s.parquet"
    path.write_bytes(encode_shard(rows, SCHEMA, PROVENANCE))
    expected = in_order(rows)

    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description]
        assert [dict(zip(names, row, strict=True)) for row in found.fetchall()] == expected

    frame = pd.read_parquet(path, dtype_backend="pyarrow")
    records = [{k: None if v is pd.NA else v for k, v in row.items()} for row in frame.to_dict("records")]
    assert [row | {"reasons": list(row["reasons"])} for row in records] == expected


def test_null_and_zero_are_distinct(tmp_path):
    """An abstention is null in every engine, and a score of zero is zero."""
    rows = make_video("a", 2, cer=0.0) + make_video("b", 3, cer=None)
    path = tmp_path / "s.parquet"
    path.write_bytes(encode_shard(rows, SCHEMA, PROVENANCE))
    frame = read_shard(path)
    assert (frame["cer"].null_count(), frame["cer"].is_nan().sum(), frame["cer"].mean()) == (3, 0, 0.0)
    with duckdb.connect() as connection:
        counts = connection.execute("SELECT count(*), count(cer), avg(cer) FROM read_parquet(?)", [str(path)])
        assert counts.fetchone() == (5, 2, 0.0)


def test_several_shards_are_scanned_as_one_lazy_frame(tmp_path):
    """Shards of one suite are concatenated, and can be filtered by video."""
    uris = []
    for number, video in enumerate(["a", "b", "c"]):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(encode_shard(make_video(video, 2), SCHEMA, PROVENANCE))
        uris.append(str(path))
    frame = scan_shards(uris)
    assert isinstance(frame, pl.LazyFrame)
    assert frame.filter(pl.col("video_id") == "b").select("video_id", "segment_index").collect().rows() == [
        ("b", 0),
        ("b", 1),
    ]


def test_scanning_no_shards_is_bad_input():
    """The message says that there is no committed shard."""
    with pytest.raises(BadInput, match="no committed shard"):
        scan_shards([])


def test_provenance_can_be_read_from_the_file(tmp_path):
    """This code and DuckDB read the provenance that was written."""
    path = tmp_path / "s.parquet"
    path.write_bytes(encode_shard(make_video("v", 1), SCHEMA, PROVENANCE))
    assert read_provenance(path.read_bytes(), "s.parquet") == PROVENANCE
    with duckdb.connect() as connection:
        query = "SELECT decode(value)::JSON->>'suite' FROM parquet_kv_metadata(?) WHERE key = ?"
        assert connection.execute(query, [str(path), METADATA_KEY]).fetchone() == ("sample",)


def foreign_parquet() -> bytes:
    buffer = BytesIO()
    pl.DataFrame({"a": [1]}).write_parquet(buffer)
    return buffer.getvalue()


def shard_of_a_newer_version() -> bytes:
    return encode_shard(make_video("v", 1), SCHEMA, replace(PROVENANCE, schema_version=SCHEMA_VERSION + 1))


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"not parquet at all", "k: content should be a parquet file, is "),
        (foreign_parquet(), "k: provenance should be a shard's, is None"),
        (shard_of_a_newer_version(), f"k: schema version should be at most {SCHEMA_VERSION}, is {SCHEMA_VERSION + 1}"),
    ],
    ids=["no parquet", "not ours", "too new"],
)
def test_a_file_that_is_no_shard_is_refused(payload, complaint):
    """The message names the key and what is wrong."""
    with pytest.raises(ShardCorrupt, match=complaint):
        read_provenance(payload, "k")


def test_rules_may_read_every_column_but_the_list_of_reasons():
    """``shard_columns`` lists the columns of the file in its order."""
    assert [column.name for column in shard_columns(MODELS)] == SCHEMA.names[:-1]

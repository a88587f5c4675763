"""Shards read by those who know nothing of us, and by ourselves."""

from dataclasses import replace
from io import BytesIO

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings

from tests.support.sample_shards import MODELS, PROVENANCE, SCHEMA, in_order, make_video, shard_rows
from validation.errors import BadInput
from validation.shards.faults import ShardCorrupt
from validation.shards.provenance import METADATA_KEY
from validation.shards.reader import read_provenance, read_shard, scan_shards
from validation.shards.schema import SCHEMA_VERSION, shard_columns
from validation.shards.writer import encode_shard


@given(shard_rows())
@settings(max_examples=25, deadline=None)
def test_polars_reads_what_was_written(rows):
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


def test_null_and_zero_are_told_apart(tmp_path):
    """An abstention is null in every engine, a score of zero is zero, and neither counts as the other."""
    rows = make_video("a", 2, cer=0.0) + make_video("b", 3, cer=None)
    path = tmp_path / "s.parquet"
    path.write_bytes(encode_shard(rows, SCHEMA, PROVENANCE))
    frame = read_shard(path)
    assert (frame["cer"].null_count(), frame["cer"].is_nan().sum(), frame["cer"].mean()) == (3, 0, 0.0)
    with duckdb.connect() as connection:
        counts = connection.execute("SELECT count(*), count(cer), avg(cer) FROM read_parquet(?)", [str(path)])
        assert counts.fetchone() == (5, 2, 0.0)


def test_many_shards_are_one_lazy_frame(tmp_path):
    """Shards of one suite stack, and a filter on the video reaches into the files."""
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


def test_no_shards_is_said_in_a_sentence():
    """An empty ledger is not a stack trace."""
    with pytest.raises(BadInput, match="no committed shard"):
        scan_shards([])


def test_a_shard_tells_who_made_it(tmp_path):
    """Provenance round-trips through the file, and DuckDB can read it without us."""
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
def test_what_is_not_a_shard_is_refused(payload, complaint):
    """The sentence names the key and what is wrong with it."""
    with pytest.raises(ShardCorrupt, match=complaint):
        read_provenance(payload, "k")


def test_rules_may_read_every_column_but_the_list_of_reasons():
    """The columns offered to rules are those in the file, in its order."""
    assert [column.name for column in shard_columns(MODELS)] == SCHEMA.names[:-1]

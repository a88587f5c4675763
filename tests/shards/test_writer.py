"""The bytes that the writer produces, and the rows that it refuses."""

import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from tests.support.sample_shards import PROVENANCE, SCHEMA, in_order, make_row, make_video, shard_rows
from validation.shards.schema import ShardRefused
from validation.shards.writer import ROW_GROUP_ROWS, encode_shard


def read_back(payload: bytes) -> list[dict]:
    return pq.read_table(pa.BufferReader(payload)).to_pylist()


@given(shard_rows())
@settings(max_examples=25, deadline=None)
def test_reading_returns_the_written_rows(rows):
    """Every value of every row is equal, nulls included, in the order of the format."""
    assert read_back(encode_shard(rows, SCHEMA, PROVENANCE)) == in_order(rows)


@given(shard_rows())
@settings(max_examples=12, deadline=None)
def test_the_same_rows_make_the_same_bytes(rows):
    """The order of the rows does not change the hash, so that an upload can be repeated."""
    assert encode_shard(rows, SCHEMA, PROVENANCE) == encode_shard(rows[::-1], SCHEMA, PROVENANCE)


def test_rows_are_sorted_and_the_file_declares_it():
    """By video and by place in the tar; the parquet metadata declares the order."""
    rows = [row for video in ("zz", "a", "é", "नम") for row in make_video(video, 12)]
    random.Random(1).shuffle(rows)
    payload = encode_shard(rows, SCHEMA, PROVENANCE)
    order = [(row["video_id"], row["segment_index"]) for row in read_back(payload)]
    assert order == sorted(order)
    metadata = pq.read_metadata(pa.BufferReader(payload))
    assert [column.column_index for column in metadata.row_group(0).sorting_columns] == [0, 1]


def test_row_groups_are_cut_between_videos():
    """No video is split, the size of groups is bounded, and their statistics name their videos."""
    sizes = {f"v{number:03d}": 60 + 37 * (number % 9) for number in range(30)}
    rows = [row for video, size in sizes.items() for row in make_video(video, size)]
    file = pq.ParquetFile(pa.BufferReader(encode_shard(rows, SCHEMA, PROVENANCE)))
    groups = [file.read_row_group(n, columns=["video_id"])["video_id"].to_pylist() for n in range(file.num_row_groups)]
    assert len(groups) > 3
    assert all(ROW_GROUP_ROWS <= len(group) < ROW_GROUP_ROWS + max(sizes.values()) for group in groups[:-1])
    assert sum(len(set(group)) for group in groups) == len(sizes)
    for number, group in enumerate(groups):
        statistics = file.metadata.row_group(number).column(0).statistics
        assert (statistics.min, statistics.max) == (group[0], group[-1])


def test_columns_are_stored_as_the_format_defines():
    """Zstd everywhere; strings with a dictionary; the schema is the suite's, field by field."""
    payload = encode_shard(make_video("v", 20, ear_text="hello", cer=0.5), SCHEMA, PROVENANCE)
    group = pq.read_metadata(pa.BufferReader(payload)).row_group(0)
    stored = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert {column.compression for column in stored.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in stored["ear_text"].encodings
    assert "RLE_DICTIONARY" not in stored["cer"].encodings
    assert pq.read_schema(pa.BufferReader(payload)).equals(SCHEMA, check_metadata=False)


def test_units_and_descriptions_are_in_the_file():
    """The meaning of a column can be read from the file alone."""
    schema = pq.read_schema(pa.BufferReader(encode_shard([make_row("v", 0)], SCHEMA, PROVENANCE)))
    assert schema.field("rms_dbfs").metadata[b"unit"] == b"dBFS"
    assert schema.field("ear_p").metadata == {b"unit": b"probability", b"description": b"How sure it is."}


def test_lone_surrogates_are_escaped():
    """A lone surrogate, from a broken name or from JSON, must not fail the shard."""
    (row,) = read_back(encode_shard([make_row("v", 0, segment="a\udcff", text="b\ud800c")], SCHEMA, PROVENANCE))
    assert (row["segment"], row["text"]) == ("a\\udcff", "b\\ud800c")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "rows: there are none"),
        ([*make_video("v", 2), make_row("v", 1, segment="x")], "video v: segment 2 is missing or repeated"),
        ([make_row("v", 0), make_row("v", 2)], "video v: segment 1 is missing or repeated"),
        ([make_row("v", 1)], "video v: segment 0 is missing or repeated"),
        ([make_row("v", 0, segment="x"), make_row("v", 1, segment="x")], "video v: two segments are called 'x'"),
        ([make_row("v", 0), make_row("v", 1, cer=math.nan)], "video v segment 1: cer is not finite: unknown is null"),
        ([make_row("v", 0, nose_ovr=math.inf)], "video v segment 0: nose_ovr is not finite"),
        ([make_row("v", 0), make_row("w", 0, verdict=None)], "video w segment 0: verdict is null"),
        ([make_row("v", 0, ear_smell=1)], "video v segment 0: the schema has no column ear_smell"),
        ([make_row("v", 0, cer="high")], "video v segment 0: cer is 'high', not of type double"),
        ([make_row("v", 0, cer=True)], "cer is True, not of type double"),
        ([make_row("v", 0, ear_tokens=1.5)], "ear_tokens is 1.5, not of type int64"),
        ([make_row("v", 0, ear_tokens=2**63)], "column ear_tokens: "),
        ([make_row("v", 0, ear_text=7)], "ear_text is 7, not of type string"),
        ([make_row("v", 0, ear_sure=1)], "ear_sure is 1, not of type bool"),
        ([make_row("v", 0, reasons=[7])], "column reasons: "),
    ],
)
def test_rows_that_break_the_format_are_refused(rows, complaint):
    """Nothing is written, and the message names the row and the column."""
    with pytest.raises(ShardRefused, match=complaint):
        encode_shard(rows, SCHEMA, PROVENANCE)


def test_two_videos_may_use_the_same_segment_names():
    """A segment's name is unique only within its video."""
    payload = encode_shard(make_video("v", 2) + make_video("w", 2), SCHEMA, PROVENANCE)
    assert len(read_back(payload)) == 4

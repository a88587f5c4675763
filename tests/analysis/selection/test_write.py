"""The formats of a selection: the shards' Arrow types in parquet, and WebDataset's own keys."""

import io
import json
import tarfile

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.report_helpers import SCHEMA, make_row, write_shards
from validation.analysis.selection.write import (
    NO_KEY,
    SHARED_KEY,
    SLICED,
    describe_left_out,
    webdataset_key,
    write_selection,
)

wds = pytest.importorskip("webdataset", reason="installed by the extra `test`")
FIELDS = {field.name: field for field in SCHEMA}
TAR_URL = "s3://source/{video_id}.tar"


def write(tmp_path, rows, name: str, *, columns=None, keep=("accept",)):
    """Write rows as a selection; `columns` are added to the shard's own."""
    frame = pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)).with_columns(
        *(pl.Series(column, values, strict=False) for column, values in (columns or {}).items())
    )
    form = {"parquet": "parquet", "jsonl": "webdataset"}[name.rpartition(".")[2]]
    left_out = write_selection(frame.lazy(), keep, tmp_path / name, form, fields=FIELDS, tar_url=TAR_URL)
    return tmp_path / name, left_out


def test_selection_has_the_arrow_types_of_the_shards(tmp_path):
    """Types, nullability, units and descriptions are the shards'; readers can concatenate the two files."""
    rows = [make_row("a", n, ovr=3.0) for n in range(3)]
    write_shards(tmp_path / "results", rows)
    (shard,) = (tmp_path / "results").rglob("*.parquet")
    path, left_out = write(tmp_path, rows, "kept.parquet")
    kept, stored = pq.read_table(path), pq.read_table(shard)
    assert kept.schema.equals(stored.schema.remove_metadata(), check_metadata=True)
    assert pa.concat_tables([kept, stored]).num_rows == 6
    assert left_out == {}


NAMES = st.from_regex(r"(\./)?([a-c]{1,2}(\.[a-c])?/){0,2}[a-c1]{1,3}(\.[a-c1]{1,3}){0,2}\.flac", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_keys_are_those_of_webdataset(names):
    """For any member the key equals that of WebDataset's own function, apart from a leading `./`."""
    frame = pl.DataFrame({"audio_member": names, "segment": names})
    keys = frame.select(webdataset_key(frame.lazy()))["audio_member"].to_list()
    assert keys == [wds.tariterators.base_plus_ext(name)[0].removeprefix("./") for name in names]


def pack(path, members):
    with tarfile.open(path, "w") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"fLaC"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # WebDataset leaves the tar open
@pytest.mark.parametrize("prefix", ["", "./"])
def test_webdataset_selects_the_kept_segments_by_the_list(tmp_path, prefix):
    """WebDataset itself, filtered by the list's keys, yields the kept segments and no others."""
    rows = [make_row("v", n, ovr=3.0 if n % 2 else 1.0) for n in range(4)]
    for row in rows:
        row["segment"] = f"audio/{row['segment_index']}.take"
    pack(tmp_path / "v.tar", [f"{prefix}{row['segment']}.flac" for row in rows])
    path, left_out = write(tmp_path, rows, "kept.wds.jsonl")
    (line,) = map(json.loads, path.read_text().splitlines())
    assert line == {"url": "s3://source/v.tar", "video_id": "v", "keys": ["audio/1", "audio/3"]}
    dataset = wds.WebDataset(str(tmp_path / "v.tar"), shardshuffle=False, empty_check=False)
    read = [s["__key__"].removeprefix("./") for s in dataset if s["__key__"].removeprefix("./") in line["keys"]]
    assert read == line["keys"]
    assert left_out == {}


def test_segments_without_a_key_of_their_own_are_counted(tmp_path):
    """Slices, segments without a file, and names that agree up to the first dot are left out, in one sentence."""
    rows = [make_row("v", n, ovr=1.0 if n == 1 else 3.0) for n in range(6)]
    members = ["seg_12.34.flac", "seg_12.56.flac", "whole.flac", "whole.flac", None, "ok.flac"]
    for row, segment in zip(rows, ["a", "b", "c", "d", ".e", "ok"], strict=True):
        row["segment"] = segment
    columns = {"audio_member": members, "audio_offset_s": [None, None, 0.0, 2.5, None, None]}
    path, left_out = write(tmp_path, rows, "kept.wds.jsonl", columns=columns)
    assert json.loads(path.read_text())["keys"] == ["ok"]
    assert left_out == {NO_KEY: 1, SHARED_KEY: 1, SLICED: 2}
    sentence = describe_left_out(left_out)
    assert sentence.startswith("4 kept segments have no WebDataset key of their own and were left out: ")
    assert "2 are slices of a longer file" in sentence

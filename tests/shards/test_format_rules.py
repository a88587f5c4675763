"""A shard that breaks the rules of the format is found when it is read, with any software that wrote it."""

import json
from io import BytesIO
from math import inf, nan

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.sample_shards import PROVENANCE, SCHEMA, make_row, make_video
from validation.analysis.selection.broken_shards import BrokenShard, exclude_broken
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import ReadableShard, RevisionShards, ShardSource
from validation.cli.main import main
from validation.domain import Video
from validation.errors import BadInput
from validation.shards.manifest import describe_shard
from validation.shards.reader import find_broken_rule, read_shard, verify_shard
from validation.shards.schema import ShardCorrupt, ShardRefused
from validation.shards.writer import encode_shard

pytestmark = pytest.mark.attack

SOUND = encode_shard(make_video("a", 3, duration_s=2.0), SCHEMA, PROVENANCE)
POISON = [
    ({"duration_s": nan}, "duration_s is not a finite number up to 1e+12"),
    ({"duration_s": inf}, "duration_s is not a finite number up to 1e+12"),
    ({"ear_p": 1e308}, "ear_p is not a finite number up to 1e+12"),
    ({"duration_s": -1.0}, "duration_s is negative"),
    ({"start_s": -1.0}, "start_s is negative"),
    ({"video_id": None}, "video_id is null"),
    ({"text": None}, "text is null"),
    ({"verdict": "perfect"}, "verdict is none of accept, review and reject"),
    ({"reasons": ["quiet"]}, "reasons are empty for a segment that is not accepted, or not empty for one that is"),
    ({"segment_index": 1}, "a segment is repeated"),
    ({"segment_index": -1}, "segment_index is negative"),
]


def poison(**values: object) -> bytes:
    """Return a shard whose first row has these values, written without the writer's checks."""
    table = pq.read_table(pa.BufferReader(SOUND))
    for name, value in values.items():
        column = pa.array([value, *table[name].to_pylist()[1:]], type=table.schema.field(name).type)
        table = table.set_column(table.schema.get_field_index(name), pa.field(name, column.type), column)
    return write(table.replace_schema_metadata(pq.read_schema(pa.BufferReader(SOUND)).metadata))


def write(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def without(name: str) -> bytes:
    return write(pq.read_table(pa.BufferReader(SOUND)).drop_columns([name]))


def retyped(name: str, type_: pa.DataType) -> bytes:
    table = pq.read_table(pa.BufferReader(SOUND))
    place = table.schema.get_field_index(name)
    return write(table.set_column(place, pa.field(name, type_), pa.nulls(len(table), type_)))


BROKEN = [
    *((poison(**values), problem) for values, problem in POISON),
    (without("verdict"), "it has no column verdict"),
    (retyped("duration_s", pa.string()), "column duration_s is of type String, not Float64"),
    (retyped("ear_p", pa.date32()), "column ear_p is of type Date, not Float64 or Int64 or String or Boolean"),
]


@pytest.mark.parametrize(("payload", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_each_rule_is_checked_on_reading(payload, problem, tmp_path):
    """Alone, and beside a sound shard: the broken one is named and withheld, and totals count the sound one."""
    assert find_broken_rule(read_shard(payload)) == problem
    (tmp_path / "bad.parquet").write_bytes(payload)
    (tmp_path / "good.parquet").write_bytes(encode_shard(make_video("b", 2, duration_s=1.5), SCHEMA, PROVENANCE))
    source, withheld = exclude_broken(make_source(tmp_path, "bad", "good"))
    assert withheld == (BrokenShard(str(tmp_path / "bad.parquet"), problem),)
    assert open_segments(source).select(pl.col("duration_s").sum()).collect().item() == 3.0


def test_a_sound_shard_breaks_no_rule(tmp_path):
    """Nulls where the format allows them are no breach."""
    rows = [*make_video("a", 2), make_row("b", 0, verdict="review", reasons=["quiet"], ear_p=0.5)]
    payload = encode_shard(rows, SCHEMA, PROVENANCE)
    assert find_broken_rule(read_shard(payload)) is None
    (tmp_path / "a.parquet").write_bytes(payload)
    source = make_source(tmp_path, "a")
    assert exclude_broken(source) == (source, ())


def test_a_source_without_a_sound_shard_is_refused(tmp_path):
    """The error names the first shard and its rule."""
    (tmp_path / "bad.parquet").write_bytes(poison(duration_s=inf))
    with pytest.raises(BadInput, match=r"bad\.parquet: duration_s is not a finite number"):
        exclude_broken(make_source(tmp_path, "bad"))


def test_verification_finds_a_broken_rule_behind_right_checksums():
    """The box that wrote the poison wrote its manifest too."""
    payload = poison(ear_p=1e308)
    manifest = describe_shard(payload, "k", PROVENANCE, rows=make_video("a", 3), videos=[Video("a", None, None)])
    with pytest.raises(ShardCorrupt, match="broken rule of the format should be None, is ear_p is not a finite number"):
        verify_shard(payload, manifest)


@pytest.mark.parametrize("values", [{"duration_s": -1.0}, {"ear_p": 1e308}])
def test_the_writer_keeps_the_rules_that_readers_check(values):
    """A worker refuses to write what no reader would read."""
    with pytest.raises(ShardRefused, match=r"is negative|is larger than"):
        encode_shard(make_video("a", 1, **values), SCHEMA, PROVENANCE)


def make_source(folder, *names: str) -> ShardSource:
    shards = tuple(ReadableShard(str(folder / f"{name}.parquet"), 2) for name in names)
    return ShardSource("sample", (RevisionShards(PROVENANCE.model_revisions, shards),))


RULES = """
version = "sample-1"
required_models = []

[[rules]]
reason = "short"
verdict = "reject"
when = [{ column = "duration_s", op = "<", value = 0.3 }]
sentence = "It is too short."
"""


def test_select_names_a_withheld_shard_and_counts_the_others(tmp_path, capsys, monkeypatch):
    """The counts go to standard output and are finite; the name of the shard goes to standard error."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for name, payload in (("a", poison(duration_s=1e308)), ("b", encode_shard(make_video("b", 2), SCHEMA, PROVENANCE))):
        manifest = describe_shard(payload, name, PROVENANCE, rows=make_video(name, 2), videos=[Video(name, None, None)])
        (tmp_path / f"{name}.parquet").write_bytes(payload)
        (tmp_path / f"{name}.manifest.json").write_bytes(manifest.to_json())
    (tmp_path / "rules.toml").write_text(RULES)
    assert main(["select", "--shards", str(tmp_path), "--rules", str(tmp_path / "rules.toml"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["tally"]["languages"][0]["segments"] == 2
    assert f"withheld: {tmp_path}/a.parquet breaks the format of shards: duration_s is not a finite number" in err

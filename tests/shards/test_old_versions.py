"""Shards that version 0.1.0 wrote can still be read. The committed files are never written again."""

from pathlib import Path

from tests.support.sample_shards import PROVENANCE, SCHEMA, make_video
from validation.shards.manifest import ShardManifest
from validation.shards.reader import read_file_provenance, read_shard, scan_shards, verify_shard
from validation.shards.writer import encode_shard

SHARD = Path(__file__).with_name("shard_0_1.parquet")
MANIFEST = ShardManifest.from_json(SHARD.with_suffix(".manifest.json").read_bytes(), "shard_0_1.manifest.json")


def test_a_shard_of_0_1_agrees_with_its_manifest():
    """Size, hash, rows, provenance and videos are verified as those of a new shard are."""
    verify_shard(SHARD.read_bytes(), MANIFEST)
    assert MANIFEST.receipt.segments == 4
    assert [failure.video_id for failure in MANIFEST.failed] == ["gone"]


def test_the_provenance_of_a_shard_of_0_1_is_read():
    """Its schema version is 1, and every fact is the one that was written."""
    provenance = read_file_provenance(SHARD)
    assert provenance.schema_version == 1
    assert (provenance.suite, provenance.model_revisions) == ("sample", {"ear": "e1", "nose": "n1"})
    assert (provenance.chunk_id, provenance.worker_id) == (PROVENANCE.chunk_id, "val-07")


def test_the_rows_of_a_shard_of_0_1_are_read():
    """Scores, faults, abstentions and reasons keep their values."""
    frame = read_shard(SHARD)
    assert frame["video_id"].to_list() == ["a1b2c3d4e5f"] * 3 + ["dQw4w9WgXcQ"]
    assert frame["ear_text"].to_list() == ["नमस्ते", "नमस्ते", None, None]
    assert frame["cer"].to_list() == [0.125, 0.125, None, 0.0]
    assert frame["fault"].to_list()[2] == "undecodable: it ends after 1.00 of 2.00 s"
    assert frame["nose_fault"].to_list()[3] == "not_asked: spared by the cascade"
    assert frame["reasons"].to_list() == [[], [], ["undecodable", "silent"], []]
    assert scan_shards([str(SHARD)]).collect().equals(frame)


def test_a_column_that_0_1_lacks_is_null():
    """Shards of both versions can be concatenated, and rules read the column."""
    old, new = (
        read_shard(SHARD),
        read_shard(encode_shard(make_video("v", 1, length_difference_s=0.5), SCHEMA, PROVENANCE)),
    )
    assert old.schema == new.schema
    assert [*old["length_difference_s"], *new["length_difference_s"]] == [None] * 4 + [0.5]

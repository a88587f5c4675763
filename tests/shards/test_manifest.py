"""Manifests, and the check that a stored shard is the one that was committed."""

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sample_shards import PROVENANCE, SCHEMA, TEXT, make_video
from validation.domain import Video, VideoFailure
from validation.errors import BadInput
from validation.shards.manifest import ShardManifest, describe_shard
from validation.shards.naming import manifest_key, shard_key
from validation.shards.reader import verify_shard
from validation.shards.schema import ShardCorrupt
from validation.shards.writer import encode_shard

KEY = shard_key("val-07", 1)
VIDEOS = [Video("w", "hi", 3), Video("v", None, None), Video("gone", "hi", 5), Video("untried", "hi", 5)]
FAILED = [VideoFailure("gone", "404 not found", transient=False)]
ROWS = make_video("v", 2) + make_video("w", 4)
PAYLOAD = encode_shard(ROWS, SCHEMA, PROVENANCE)
MANIFEST = describe_shard(PAYLOAD, KEY, PROVENANCE, rows=ROWS, videos=VIDEOS, failed=FAILED)


def test_a_manifest_lists_what_the_shard_holds():
    """Its videos with their row counts and the queue's counts, the failed videos, and the file's size and hash."""
    assert (MANIFEST.rows, MANIFEST.size_bytes, MANIFEST.sha256) == (6, len(PAYLOAD), sha256(PAYLOAD).hexdigest())
    assert [(v.video_id, v.language, v.segments, v.segments_expected) for v in MANIFEST.videos] == [
        ("v", None, 2, None),
        ("w", "hi", 4, 3),
    ]
    assert MANIFEST.failed == tuple(FAILED)


def test_the_receipt_repeats_the_facts_of_the_manifest():
    """Key, hash, size, segments and suite are equal."""
    receipt = MANIFEST.receipt
    assert (receipt.key, receipt.sha256, receipt.size_bytes) == (KEY, MANIFEST.sha256, len(PAYLOAD))
    assert (receipt.segments, receipt.suite) == (6, "sample")


@given(st.lists(st.tuples(TEXT, st.none() | TEXT, st.none() | st.integers(0, 2**31)), unique_by=lambda v: v[0]))
def test_a_manifest_survives_json(videos):
    """Written and read again, it is the same manifest."""
    claimed = [Video(*video) for video in videos]
    rows = [{"video_id": video.video_id} for video in claimed]
    failed = [VideoFailure(video.video_id + "!", "late", transient=True) for video in claimed]
    manifest = describe_shard(PAYLOAD, KEY, PROVENANCE, rows=rows, videos=claimed, failed=failed)
    assert ShardManifest.from_json(manifest.to_json(), "m") == manifest


def test_unknown_keys_of_a_manifest_are_ignored():
    """A manifest of a later version can be read."""
    assert ShardManifest.from_json(b'{"colour": "blue",' + MANIFEST.to_json()[1:], "m") == MANIFEST


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"<html>", "m.json: manifest should be"),
        (MANIFEST.to_json().replace(b'"rows": 6', b'"rows": "six"'), "m.json: rows should be"),
        (MANIFEST.to_json().replace(b'"sha256"', b'"md5"'), "m.json: sha256 should be"),
    ],
)
def test_a_broken_manifest_is_refused_by_name(payload, complaint):
    """The message names the object and the key in it."""
    with pytest.raises(ShardCorrupt, match=complaint):
        ShardManifest.from_json(payload, "m.json")


# --- verification -----------------------------------------------------------------------------------------------


def test_verify_passes_for_a_shard_and_its_manifest():
    """Also after the manifest was written as JSON and read again."""
    verify_shard(PAYLOAD, MANIFEST)
    verify_shard(PAYLOAD, ShardManifest.from_json(MANIFEST.to_json(), "m"))


@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
def test_verify_finds_any_changed_byte(place, flip):
    """The hash is over the whole file."""
    spoilt = bytearray(PAYLOAD)
    spoilt[place] ^= flip
    with pytest.raises(ShardCorrupt, match="sha256 should be"):
        verify_shard(bytes(spoilt), MANIFEST)


def test_verify_finds_a_truncated_shard_by_its_size():
    """The size is compared first, and the error holds both sizes."""
    with pytest.raises(ShardCorrupt, match=f"size in bytes should be {len(PAYLOAD)}, is {len(PAYLOAD) - 1}") as caught:
        verify_shard(PAYLOAD[:-1], MANIFEST)
    assert (caught.value.key, caught.value.expected, caught.value.found) == (KEY, len(PAYLOAD), len(PAYLOAD) - 1)


@pytest.mark.parametrize(
    ("lie", "fact"),
    [
        ({"rows": 7}, "rows"),
        ({"videos": MANIFEST.videos[:1]}, "segments by video"),
        ({"videos": (replace(MANIFEST.videos[0], segments=3), MANIFEST.videos[1])}, "segments by video"),
        ({"provenance": replace(PROVENANCE, worker_id="val-08")}, "provenance"),
        ({"provenance": replace(PROVENANCE, model_revisions={"ear": "e2", "nose": "n1"})}, "provenance"),
    ],
    ids=["rows", "a video too few", "a segment too many", "another worker", "another revision"],
)
def test_verify_finds_a_manifest_that_differs_from_the_content(lie, fact):
    """A right hash is not enough."""
    with pytest.raises(ShardCorrupt) as caught:
        verify_shard(PAYLOAD, replace(MANIFEST, **lie))
    assert (caught.value.key, caught.value.fact) == (KEY, fact)


# --- names ------------------------------------------------------------------------------------------------------


def test_keys_have_the_form_of_the_format():
    """The number has at least four digits."""
    assert KEY == "shards/val-07/validation_val-07_shard_0001.parquet"
    assert manifest_key("C.123_x", 12345) == "shards/C.123_x/validation_C.123_x_shard_12345.manifest.json"


@pytest.mark.parametrize("worker_id", ["", "a/b", "../up", ".hidden", "a b", "ñ", "a\n"])
def test_an_invalid_worker_id_is_refused(worker_id):
    """No worker id leads out of the worker's own folder."""
    with pytest.raises(BadInput, match="cannot name a shard"):
        shard_key(worker_id, 1)

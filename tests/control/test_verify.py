"""`vfleet shards verify`: every committed shard is read once, and each bad one named."""

import json

import pytest

from tests.support.store_helpers import damage_object
from validation.control import audit
from validation.control.audit import verify_shards
from validation.errors import BadInput
from validation.ledger.queries import read_committed_shards
from validation.storage.store import delete_object
from validation.worker.chunk.context import run_chunk


@pytest.fixture
def shards(box):
    """The keys of three committed shards."""
    box.add_videos(*"abc")
    for _ in range(3):
        run_chunk(box.context, size=1)
    return [shard.shard_key for shard in read_committed_shards(box.engine)]


def test_verify_reads_every_shard_and_names_the_bad_ones(box, shards):
    """One bad shard does not hide another."""
    damage_object(box.context.results, shards[0])
    delete_object(box.context.results, shards[2])
    told = {verified.key: verified.problem for verified in verify_shards(box.engine, box.context.results)}
    assert set(told) == set(shards)
    assert "sha256" in told[shards[0]]
    assert told[shards[1]] is None
    assert "does not exist" in told[shards[2]]


def test_verify_resumes_from_its_log(box, shards, tmp_path, monkeypatch):
    """Sound shards are not read again, bad ones are; a line that was cut off is dropped, now and in later runs."""
    damage_object(box.context.results, shards[0])
    log = tmp_path / "verified.jsonl"
    list(verify_shards(box.engine, box.context.results, log=log))
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["key"] != shards[1]]
    log.write_text("\n".join([*lines, '{"key": "shar']))
    read = []
    check = audit.check_shard
    monkeypatch.setattr(audit, "check_shard", lambda *given: read.append(given[2].shard_key) or check(*given))
    list(verify_shards(box.engine, box.context.results, log=log, readers=1))
    assert sorted(read) == sorted(shards[:2])
    list(verify_shards(box.engine, box.context.results, log=log, readers=1))
    assert read[2:] == [shards[0]]


def test_shard_committed_during_verification_is_not_wrong(box, shards, monkeypatch):
    """A working fleet causes no false finding: of each verified shard, the ledger's counts are known."""
    box.add_videos("d")
    waiting = [True]

    def commit_in_between(reading):
        def read(engine):
            found = reading(engine)
            if waiting:
                waiting.clear()
                run_chunk(box.context)
            return found

        return read

    for name in ("read_committed_shards", "read_segment_counts"):
        monkeypatch.setattr(audit, name, commit_in_between(getattr(audit, name)))
    assert [each.problem for each in verify_shards(box.engine, box.context.results)] == [None] * 3


def test_verify_refuses_a_file_that_is_not_its_log(box, shards, tmp_path):
    """The file is not appended to."""
    (tmp_path / "notes.txt").write_text("milk\n")
    with pytest.raises(BadInput, match="is not a log"):
        list(verify_shards(box.engine, box.context.results, log=tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "milk\n"

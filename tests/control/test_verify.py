"""Every committed shard is read, once, and what is wrong is told."""

import json

import pytest

from validation.control import verify
from validation.control.verify import verify_shards
from validation.errors import BadInput
from validation.ledger.queries import read_committed_shards
from validation.storage.store import delete_object, get_bytes, put_once
from validation.worker.chunk.context import run_chunk


@pytest.fixture
def shards(box):
    """The keys of three committed shards."""
    box.add_videos(*"abc")
    for _ in range(3):
        run_chunk(box.context, size=1)
    return [shard.shard_key for shard in read_committed_shards(box.engine)]


def damage(box, key):
    payload = get_bytes(box.context.results, key)
    delete_object(box.context.results, key)
    put_once(box.context.results, key, payload[:-9] + b"U" + payload[-8:])


def test_every_shard_is_read_and_the_bad_one_named(box, shards):
    """One bad shard does not hide another."""
    damage(box, shards[0])
    delete_object(box.context.results, shards[2])
    told = {verified.key: verified.problem for verified in verify_shards(box.engine, box.context.results)}
    assert set(told) == set(shards)
    assert "sha256" in told[shards[0]]
    assert told[shards[1]] is None
    assert "does not exist" in told[shards[2]]


def test_it_goes_on_where_it_ended(box, shards, tmp_path, monkeypatch):
    """What was found sound is not read again, what was bad is; a line that was cut off counts for nothing, now and to
    whoever goes on after that."""
    damage(box, shards[0])
    log = tmp_path / "verified.jsonl"
    list(verify_shards(box.engine, box.context.results, log=log))
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["key"] != shards[1]]
    log.write_text("\n".join([*lines, '{"key": "shar']))
    read = []
    check = verify.check_shard
    monkeypatch.setattr(verify, "check_shard", lambda *given: read.append(given[2].shard_key) or check(*given))
    list(verify_shards(box.engine, box.context.results, log=log, readers=1))
    assert sorted(read) == sorted(shards[:2])
    list(verify_shards(box.engine, box.context.results, log=log, readers=1))
    assert read[2:] == [shards[0]]


def test_a_shard_that_is_committed_meanwhile_is_not_wrong(box, shards, monkeypatch):
    """A fleet at work raises no alarm: whatever is asked about, the ledger's count of it is known."""
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

    for name in ("read_committed_shards", "read_shard_segments"):
        monkeypatch.setattr(verify, name, commit_in_between(getattr(verify, name)))
    assert [each.problem for each in verify_shards(box.engine, box.context.results)] == [None] * 3


def test_a_file_that_is_no_log_is_refused(box, shards, tmp_path):
    """It may be somebody's, and is not appended to."""
    (tmp_path / "notes.txt").write_text("milk\n")
    with pytest.raises(BadInput, match="no log"):
        list(verify_shards(box.engine, box.context.results, log=tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == "milk\n"

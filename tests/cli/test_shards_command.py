"""`vfleet shards`, as an operator runs it."""

import json

import pytest

from validation.cli.main import main
from validation.ledger.queries import read_committed_shards
from validation.storage.store import delete_object
from validation.worker.chunk.context import run_chunk


@pytest.fixture
def operate(box, monkeypatch, capsys):
    """Runs `vfleet shards ...` in this process, on a box with three committed shards."""
    box.add_videos(*"abc")
    for _ in range(3):
        run_chunk(box.context, size=1)
    monkeypatch.setattr("validation.services.open_engine", lambda *_: box.engine)

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["shards", *arguments])
        return code, capsys.readouterr().out

    return run


def test_shards_are_listed_verified_compacted_and_deleted(box, operate, tmp_path):
    """List, verify, compact and delete committed shards; verify then names a damaged one."""
    _, out = operate("ls")
    assert out.count("shards/ann/") == 3
    assert ": 3 videos in 3 shards (ear 1)" in out
    assert {json.loads(line)["segments"] for line in operate("ls", "--json")[1].splitlines()} == {2}

    assert operate("verify", "--log", str(tmp_path / "log")) == (0, "3 shards read, 0 of them bad\n")
    assert operate("verify", "--log", str(tmp_path / "log")) == (0, "0 shards read, 0 of them bad\n")

    assert "3 shards of" in operate("compact", "--dry-run")[1]
    assert len(read_committed_shards(box.engine)) == 3
    assert operate("compact", "--delete-old", "--older-than-h", "0")[1].endswith("3 retired shards deleted\n")
    (shard,) = read_committed_shards(box.engine)
    assert operate("verify") == (0, "1 shards read, 0 of them bad\n")

    delete_object(box.context.results, shard.shard_key)
    code, out = operate("verify")
    assert code == 1
    assert f"object '{shard.shard_key}' does not exist" in out

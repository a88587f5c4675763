"""The catalogue in the results store follows the ledger, and readers need nothing else."""

import json
from datetime import timedelta

import polars as pl
import pytest

from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_committed_shards, find_in_catalogue, read_catalogue
from validation.cli.main import main
from validation.control.catalogue import publish_catalogue
from validation.control.compact import compact_all
from validation.control.sweep import sweep
from validation.ledger.canaries import KnownAnswer, insert_canaries
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.shards.catalogue import CATALOGUE_KEY
from validation.storage.store import get_bytes, replace_object
from validation.worker.chunk.context import run_chunk

RULES = 'version = "tiny-1"\nrequired_models = ["ear"]\nrules = []\n'


@pytest.fixture
def filled(box):
    """Two shards of the suite `tiny`: one video is superseded, one is a canary."""
    insert_canaries(box.engine, "tiny", {"ear": "1"}, {"canary": (KnownAnswer("accept", {}),) * 2}, basis={})
    box.add_videos("a", "b", "canary")
    run_chunk(box.context, size=3)
    requeue_videos(box.engine, Requeue(["a"]))
    run_chunk(box.context)
    return box


def test_catalogue_lists_what_the_ledger_lists(filled):
    """Shards, withheld videos, revisions and columns; a reader with the catalogue gets the ledger's rows."""
    catalogue = publish_catalogue(filled.engine, filled.context.results)
    committed = read_committed_shards(filled.engine)
    assert [(s.key, s.sha256, set(s.withheld)) for s in catalogue.shards] == [
        (s.shard_key, s.shard_sha256, set(s.withheld)) for s in committed
    ]
    (revision,) = catalogue.revisions
    assert (revision.suite, revision.models, revision.rules_version) == ("tiny", {"ear": "1"}, "tiny-1")
    assert {"video_id", "ear_peak"} <= {column.name for column in revision.columns}
    settings = filled.context.settings
    by_ledger = open_segments(find_committed_shards(filled.engine, "tiny", settings)).collect()
    by_catalogue = open_segments(find_in_catalogue(read_catalogue(settings), settings, suite=None)).collect()
    assert by_catalogue.equals(by_ledger)
    assert set(by_catalogue["video_id"]) == {"a", "b"}


def test_catalogue_is_written_only_after_a_change(filled):
    """An unchanged ledger writes nothing; a commit, a compaction and a damaged catalogue do."""
    results = filled.context.results
    assert publish_catalogue(filled.engine, results) is not None
    assert publish_catalogue(filled.engine, results) is None
    ((_, made),) = compact_all(filled.engine, results)
    assert [shard.key for shard in publish_catalogue(filled.engine, results).shards] == [made.key]
    replace_object(results, CATALOGUE_KEY, b"half a catal")
    assert publish_catalogue(filled.engine, results) is not None
    assert publish_catalogue(filled.engine, results, min_interval=timedelta(minutes=1)) is None


def test_sweep_writes_the_catalogue(filled):
    """The control plane keeps the catalogue without a command."""
    assert sweep(filled.engine, filled.context.results).failures == []
    assert json.loads(get_bytes(filled.context.results, CATALOGUE_KEY))["format"] == 1


def run(monkeypatch, *arguments) -> int:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return main([str(argument) for argument in arguments])


def test_select_and_report_need_no_ledger(filled, monkeypatch, tmp_path, capsys):
    """With the results store and its catalogue alone, by the settings' address and by `--bucket`."""
    publish_catalogue(filled.engine, filled.context.results)
    (tmp_path / "tiny.toml").write_text(RULES)
    url = filled.context.settings.results_url
    rules = ("--rules", tmp_path / "tiny.toml")
    assert run(monkeypatch, "select", tmp_path / "kept.parquet", *rules) == 0
    assert "kept 4 of 4 segments" in capsys.readouterr().out
    assert run(monkeypatch, "report", tmp_path / "page.html", *rules, "--silent") == 0
    monkeypatch.setenv("VFLEET_RESULTS_URL", "file:///nowhere")
    assert run(monkeypatch, "select", tmp_path / "again.parquet", *rules, "--bucket", url) == 0
    assert pl.read_parquet(tmp_path / "kept.parquet").equals(pl.read_parquet(tmp_path / "again.parquet"))


def test_store_without_a_catalogue_is_refused_in_one_sentence(box, monkeypatch, tmp_path, capsys):
    """The error says who writes the catalogue, and how to do without; a catalogue of a newer format is named too."""
    assert run(monkeypatch, "select") == 2
    assert f"holds no {CATALOGUE_KEY}: the control plane writes it" in capsys.readouterr().err
    replace_object(box.context.results, CATALOGUE_KEY, b'{"format": 7}')
    assert run(monkeypatch, "select") == 2
    assert "has format 7, but this version reads at most 1" in capsys.readouterr().err


def test_copy_holds_each_segment_once(filled, monkeypatch, tmp_path, capsys):
    """Without manifests, superseded rows and canaries; `--shards` reads it, and a second run copies nothing again."""
    publish_catalogue(filled.engine, filled.context.results)
    assert run(monkeypatch, "shards", "copy", tmp_path / "results") == 0
    rows = pl.read_parquet(tmp_path / "results/shards")
    assert sorted(rows["video_id"]) == ["a", "a", "b", "b"]
    assert {path.suffix for path in (tmp_path / "results/shards").rglob("*") if path.is_file()} == {".parquet"}
    (tmp_path / "tiny.toml").write_text(RULES)
    capsys.readouterr()
    assert run(monkeypatch, "select", "--shards", tmp_path / "results", "--rules", tmp_path / "tiny.toml") == 0
    assert "kept 4 of 4 segments" in capsys.readouterr().out
    complete = list((tmp_path / "results/shards").rglob("*0002.parquet"))
    times = {path: path.stat().st_mtime_ns for path in complete}
    assert run(monkeypatch, "shards", "copy", tmp_path / "results") == 0
    assert {path: path.stat().st_mtime_ns for path in complete} == times

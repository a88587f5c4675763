"""`vfleet select`: what is kept, what is lost, and why."""

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.support.ledger_helpers import statuses
from validation.analysis.selection.open import open_segments
from validation.analysis.selection.sources import find_committed
from validation.analysis.selection.summary import ACCEPTED, tally_selection
from validation.analysis.selection.verdicts import judge_segments
from validation.cli.main import main
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Video
from validation.ledger.queries import read_committed_shards
from validation.ledger.seed import seed_videos
from validation.scoring.rules_file import parse_rules
from validation.shards.reader import read_file_provenance
from validation.shards.writer import write_table
from validation.storage.store import get_bytes, list_keys, put_once
from validation.worker.chunk.run import run_chunk

RULES = """
version = "mine-1"
required_models = ["ear"]
[[rules]]
reason = "quiet"
verdict = "reject"
sentence = "Hardly anything is heard."
when = [{ column = "ear_peak", op = "<", value = 0.05 }]
[[rules]]
reason = "short"
verdict = "review"
sentence = "It ends before it begins."
when = [{ column = "duration_s", op = "<", value = 1.0 }]
"""


def add_video(pair, name: str, *loudness_and_seconds: tuple[float, float]) -> None:
    tones = [
        loudness * np.sin(np.arange(int(SAMPLE_RATE * seconds), dtype=np.float32))
        for loudness, seconds in loudness_and_seconds
    ]
    video = Video(name, "hi", len(tones))
    put_once(pair.session.source, f"{name}.tar", pack_video(video, [PackedSegment(tone, "नमस्ते") for tone in tones]))
    seed_videos(pair.box.engine, [video])


@pytest.fixture
def selected(pair, tmp_path):
    """Two shards: one loud long segment, one quiet, one short, one quiet and short."""
    add_video(pair, "a", (0.5, 2.0), (0.01, 2.0))
    add_video(pair, "b", (0.5, 0.5), (0.01, 0.5), (0.5, 3.0))
    run_chunk(pair.session, size=1)
    run_chunk(pair.session, size=1)
    (tmp_path / "mine.toml").write_text(RULES)
    return pair, tmp_path


def select(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["select", *map(str, arguments)])
    told = capsys.readouterr()
    return code, told.out, told.err


def test_it_says_what_is_kept_and_lost(selected, capsys):
    """Hours by language, and by reason: in all, and for that reason alone."""
    _, folder = selected
    code, out, _ = select(capsys, "--rules", folder / "mine.toml")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:3] == ["hi", "5", "2"]
    assert [line[:2] for line in lines[3:5]] == [["quiet", "2"], ["short", "2"]]
    assert out.endswith("judged by mine-1; verdicts changed: 1\n")


def test_hours_are_those_of_the_audio(selected, capsys):
    """2 s and 3 s are kept of 8 s; what is quiet alone is 2 s."""
    pair, _ = selected
    source = find_committed(pair.box.engine, "pair", pair.session.settings)
    rules = parse_rules(RULES, "mine")
    tally = tally_selection(judge_segments(open_segments(source), rules), rules, ["accept"])
    (language,) = tally.languages
    assert (language.hours * 3600, language.hours_kept * 3600) == pytest.approx((8.0, 5.0))
    assert {lost.reason: (lost.hours * 3600, lost.hours_alone * 3600) for lost in tally.reasons} == {
        "quiet": pytest.approx((2.5, 2.0)),
        "short": pytest.approx((1.0, 0.5)),
    }


def test_what_is_lost_is_told_by_the_rules_that_lose_it(selected):
    """A rule whose verdict is kept loses nothing; who keeps no accepted segment is told how many those are."""
    pair, _ = selected
    rules = parse_rules(RULES, "mine")
    judged = judge_segments(open_segments(find_committed(pair.box.engine, "pair", pair.session.settings)), rules)

    def lost(*keep):
        rows = tally_selection(judged, rules, keep).reasons
        return {row.reason: (row.segments, pytest.approx(row.hours_alone * 3600)) for row in rows}

    assert lost("accept", "review") == {"quiet": (2, 2.5)}
    assert lost("accept", "reject") == {"short": (1, 0.5)}
    assert lost("review") == {ACCEPTED: (2, 0.0), "quiet": (2, 0.5)}
    assert lost("accept", "review", "reject") == {}


def test_a_disk_that_is_full_is_told_as_that(selected, capsys):
    """Not as shards that cannot be read; nothing is left of the file."""
    _, folder = selected
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name in ("kept.parquet", "kept.jsonl", "kept.wds.jsonl"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
        try:
            code, _, err = select(capsys, folder / name, "--rules", folder / "mine.toml")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (code, err.strip()) == (2, f"vfleet: {folder / name} cannot be written: File too large")
    assert [path.name for path in folder.iterdir() if "kept" in path.name] == []


def test_it_writes_what_is_kept_in_every_format(selected, capsys):
    """The same segments, as a table, as lines, and as tars with the names of their segments."""
    pair, folder = selected
    for name in ("kept.parquet", "kept.jsonl", "kept.wds.jsonl"):
        assert select(capsys, folder / name, "--rules", folder / "mine.toml")[0] == 0
    table = pl.read_parquet(folder / "kept.parquet").sort("video_id")
    lines = [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]
    tars = [json.loads(line) for line in (folder / "kept.wds.jsonl").read_text().splitlines()]
    assert table.select("video_id", "segment_index").rows() == [("a", 0), ("b", 2)]
    assert {(line["video_id"], line["segment"]) for line in lines} == set(table.select("video_id", "segment").rows())
    assert tars[0]["url"] == f"{pair.session.settings.source_url}/a.tar"
    assert [(tar["video_id"], *tar["keys"]) for tar in tars] == table.select("video_id", "segment").rows()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_the_same_rules_change_no_verdict(selected):
    """What polars judges from the shards is what the scorer judged when it wrote them."""
    pair, _ = selected
    stored = open_segments(find_committed(pair.box.engine, "pair", pair.session.settings))
    judged = judge_segments(stored, pair.scorer.rules).select("verdict", "reasons").collect()
    assert judged.equals(stored.select("verdict", "reasons").collect())
    assert set(judged["verdict"]) == {"accept", "reject"}


def test_only_committed_shards_are_read(selected, capsys):
    """A file in the bucket that the ledger does not know is nobody's answer."""
    pair, folder = selected
    (first, _) = read_committed_shards(pair.box.engine)
    put_once(
        pair.session.results,
        "shards/ann/validation_ann_shard_0099.parquet",
        get_bytes(pair.session.results, first.shard_key),
    )
    assert select(capsys, "--rules", folder / "mine.toml")[1].splitlines()[1].split()[1] == "5"


def test_a_verdict_is_explained(selected, capsys):
    """Every rule that fired, with its limit and the value; the segment by its index or its name."""
    pair, folder = selected
    source = find_committed(pair.box.engine, "pair", pair.session.settings)
    names = open_segments(source).filter(video_id="b").sort("segment_index").collect()["segment"]
    told = [select(capsys, "--explain", f"b/{segment}", "--rules", folder / "mine.toml") for segment in (1, names[1])]
    assert told[0] == told[1]
    code, out, _ = told[0]
    assert code == 0
    assert "reject by mine-1" in out
    assert "ear_peak < 0.05: it is 0.0" in out
    assert "review, short: It ends before it begins." in out


def copy_results(pair, folder: Path) -> Path:
    for key in list_keys(pair.session.results):
        path = folder / "copy" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(get_bytes(pair.session.results, key))
    return folder / "copy"


@pytest.mark.parametrize("with_ledger", [True, False])
def test_a_copy_of_the_store_is_as_good(selected, capsys, monkeypatch, with_ledger):
    """From a folder of shards beside their manifests, with or without a ledger to say which count."""
    pair, folder = selected
    copy = copy_results(pair, folder)
    expected = select(capsys, "--rules", folder / "mine.toml")[1]
    if not with_ledger:
        monkeypatch.setenv("DATABASE_URL", "")
    assert select(capsys, "--shards", copy, "--rules", folder / "mine.toml")[1] == expected


def spoil_manifest(first, _second):
    first.with_suffix(".manifest.json").unlink()


def spoil_content(first, _second):
    size = first.stat().st_size
    first.write_bytes(b"\0" * size)


def spoil_kind(first, _second):
    pl.DataFrame({"video_id": ["a"]}).write_parquet(first)


def spoil_size(first, _second):
    first.write_bytes(first.read_bytes() + b"\0")


def spoil_exchange(first, second):
    shutil.copy(second, first)
    shutil.copy(second.with_suffix(".manifest.json"), first.with_suffix(".manifest.json"))


def spoil_footer(first, _second):
    payload = bytearray(first.read_bytes())
    length = int.from_bytes(payload[-8:-4], "little")
    payload[-8 - length : -8] = bytes(length)
    first.write_bytes(payload)


SPOILT = {
    spoil_footer: (1, "content should be a parquet file"),
    spoil_manifest: (1, "manifest should be"),
    spoil_content: (1, "content should be a parquet file"),
    spoil_kind: (1, "should be"),
    spoil_size: (1, "size in bytes should be"),
    spoil_exchange: (2, "stands in 2 shards"),
}


def test_a_shard_that_is_not_ours_is_refused(selected, capsys, monkeypatch):
    """Whatever is wrong with it, one sentence names the file and that."""
    pair, folder = selected
    monkeypatch.setenv("DATABASE_URL", "")
    for spoil, (expected_code, says) in SPOILT.items():
        copy = copy_results(pair, folder / spoil.__name__)
        spoil(*sorted(copy.rglob("*.parquet")))
        code, _, err = select(capsys, "--shards", copy, "--rules", folder / "mine.toml")
        assert says in err, spoil.__name__
        assert code == expected_code


def spoil_chunk(first, _second):
    """The same rows by another chunk, as long as this one was."""
    made = read_file_provenance(first)
    first.write_bytes(write_table(pq.read_table(first), replace(made, chunk_id=UUID(int=1))))


def test_the_ledger_knows_its_shards_in_a_copy(selected, capsys):
    """By size and by who made them: a foreign file under the right name is named, and nothing of it is read."""
    pair, folder = selected
    for spoil, says in (
        (spoil_footer, "content should be a parquet file"),
        (spoil_size, "size in bytes should be"),
        (spoil_chunk, "provenance should be"),
    ):
        copy = copy_results(pair, folder / spoil.__name__)
        first, second = sorted(copy.rglob("*.parquet"))
        spoil(first, second)
        code, _, err = select(capsys, "--shards", copy, "--rules", folder / "mine.toml")
        assert says in err, spoil.__name__
        assert first.name in err
        assert code == 1


REFUSED = {
    "a column that does not exist": (["--rules", "{typo}"], "no column ear_peek; the nearest is ear_peak"),
    "rules that are not there": (["--rules", "none.toml"], "rules file none.toml cannot be read"),
    "a version that is not there": (["--rules", "local-9"], "no rules are called 'local-9'"),
    "a suite without shards": (["--suite", "vad"], "no committed shard is of suite 'vad'; there are shards of pair"),
    "a verdict": (["--keep", "good"], "'good' is no verdict"),
    "an ending": (["out.csv"], "the ending says no format"),
    "a folder": (["/nowhere/out.jsonl", "--rules", "{mine}"], "folder /nowhere does not exist"),
    "a revision": (["--revision", "r0"], "no committed shard is of revision 'r0'; there are "),
    "a video": (["--explain", "zz/0", "--rules", "{mine}"], "no committed shard holds video 'zz'"),
    "a segment": (["--explain", "a/9", "--rules", "{mine}"], "video a has no segment '9': it has 2"),
    "an empty folder": (["--shards", "{folder}"], "is not there"),
}


def test_what_does_not_exist_is_named(selected, capsys):
    """Bad input gets one sentence and exit code 2."""
    _, folder = selected
    (folder / "typo.toml").write_text(RULES.replace("ear_peak", "ear_peek"))
    names = {"typo": folder / "typo.toml", "mine": folder / "mine.toml", "folder": folder}
    for what, (arguments, says) in REFUSED.items():
        code, _, err = select(capsys, *(argument.format(**names) for argument in arguments))
        assert says in err, what
        assert code == 2


def test_what_is_judged_so_returns_to_the_queue(selected, monkeypatch):
    """By verdict of the suite's rules, though the ledger keeps no verdicts."""
    pair, _ = selected
    monkeypatch.setattr("validation.cli.results.find_rules", lambda *_: pair.scorer.rules)
    assert main(["requeue", "--verdict", "reject", "--dry-run"]) == 0
    assert set(statuses(pair.box.engine).values()) == {"validated"}
    assert main(["requeue", "a", "--verdict", "reject,review"]) == 0
    assert statuses(pair.box.engine) == {"a": "pending", "b": "validated"}

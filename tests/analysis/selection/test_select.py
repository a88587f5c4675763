"""`vfleet select`: what it keeps and loses and why, its output formats, and its errors."""

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
from validation.analysis.selection.sources import find_committed_shards
from validation.analysis.selection.summary import ACCEPTED, summarize_selection
from validation.analysis.selection.verdicts import apply_rules
from validation.cli.main import main
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Video
from validation.ledger.queries import read_committed_shards
from validation.ledger.seed import seed_videos
from validation.scoring.rules_io import parse_rules
from validation.shards.reader import read_file_provenance
from validation.shards.writer import encode_table
from validation.storage.store import get_bytes, list_keys, put_if_absent
from validation.worker.chunk.context import run_chunk

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
    put_if_absent(
        pair.session.source, f"{name}.tar", pack_video(video, [PackedSegment(tone, "नमस्ते") for tone in tones])
    )
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
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_select_prints_segments_by_language_and_by_reason(selected, capsys):
    """Hours kept per language, and hours lost per reason: in all, and to that reason alone."""
    _, folder = selected
    code, out, _ = select(capsys, "--rules", folder / "mine.toml")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:3] == ["hi", "5", "2"]
    assert [line[:2] for line in lines[3:5]] == [["quiet", "2"], ["short", "2"]]
    assert out.endswith("verdicts by mine-1; verdicts changed: 1\n")


def test_summary_hours_are_audio_durations(selected, capsys):
    """Of 8 s, 2 s and 3 s are kept; the segment that is lost to `quiet` alone has 2 s."""
    pair, _ = selected
    source = find_committed_shards(pair.box.engine, "pair", pair.session.settings)
    rules = parse_rules(RULES, "mine")
    summary = summarize_selection(apply_rules(open_segments(source), rules), rules, ["accept"])
    (language,) = summary.languages
    assert (language.hours * 3600, language.hours_kept * 3600) == pytest.approx((8.0, 5.0))
    assert {lost.reason: (lost.hours * 3600, lost.hours_alone * 3600) for lost in summary.reasons} == {
        "quiet": pytest.approx((2.5, 2.0)),
        "short": pytest.approx((1.0, 0.5)),
    }


def test_losses_are_counted_for_verdicts_that_are_not_kept(selected):
    """A rule whose verdict is kept loses nothing; accepted segments that are not kept have a line of their own."""
    pair, _ = selected
    rules = parse_rules(RULES, "mine")
    segments = apply_rules(open_segments(find_committed_shards(pair.box.engine, "pair", pair.session.settings)), rules)

    def lost(*keep):
        rows = summarize_selection(segments, rules, keep).reasons
        return {row.reason: (row.segments, pytest.approx(row.hours_alone * 3600)) for row in rows}

    assert lost("accept", "review") == {"quiet": (2, 2.5)}
    assert lost("accept", "reject") == {"short": (1, 0.5)}
    assert lost("review") == {ACCEPTED: (2, 0.0), "quiet": (2, 0.5)}
    assert lost("accept", "review", "reject") == {}


def test_full_disk_is_reported_and_leaves_no_file(selected, capsys):
    """The error names the output file, not the shards, and the partial file is deleted."""
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


def test_every_format_holds_the_kept_segments(selected, capsys):
    """Parquet, JSON lines and the WebDataset list hold the same segments."""
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


def test_rules_of_the_suite_reproduce_stored_verdicts(selected):
    """Applying a suite's own rules to its shards gives the verdicts that were written."""
    pair, _ = selected
    stored = open_segments(find_committed_shards(pair.box.engine, "pair", pair.session.settings))
    segments = apply_rules(stored, pair.scorer.rules).select("verdict", "reasons").collect()
    assert segments.equals(stored.select("verdict", "reasons").collect())
    assert set(segments["verdict"]) == {"accept", "reject"}


def test_only_committed_shards_are_read(selected, capsys):
    """A shard in the bucket that the ledger does not list is ignored."""
    pair, folder = selected
    (first, _) = read_committed_shards(pair.box.engine)
    put_if_absent(
        pair.session.results,
        "shards/ann/validation_ann_shard_0099.parquet",
        get_bytes(pair.session.results, first.shard_key),
    )
    assert select(capsys, "--rules", folder / "mine.toml")[1].splitlines()[1].split()[1] == "5"


def test_explain_lists_fired_rules_with_limits_and_values(selected, capsys):
    """The segment may be named by its index or by its name."""
    pair, folder = selected
    source = find_committed_shards(pair.box.engine, "pair", pair.session.settings)
    names = open_segments(source).filter(video_id="b").sort("segment_index").collect()["segment"]
    results = [
        select(capsys, "--explain", f"b/{segment}", "--rules", folder / "mine.toml") for segment in (1, names[1])
    ]
    assert results[0] == results[1]
    code, out, _ = results[0]
    assert code == 0
    assert "reject by mine-1" in out
    assert out.splitlines()[1].startswith("  text: ")
    assert "ear_peak < 0.05: it is 0.0" in out
    assert "review, short: It ends before it begins." in out


def copy_results(pair, folder: Path) -> Path:
    for key in list_keys(pair.session.results):
        path = folder / "copy" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(get_bytes(pair.session.results, key))
    return folder / "copy"


@pytest.mark.parametrize("with_ledger", [True, False])
def test_folder_copy_gives_the_same_result_as_the_store(selected, capsys, monkeypatch, with_ledger):
    """A copy of shards and manifests is read alike with and without a ledger."""
    pair, folder = selected
    copy = copy_results(pair, folder)
    expected = select(capsys, "--rules", folder / "mine.toml")[1]
    if not with_ledger:
        monkeypatch.setenv("DATABASE_URL", "")
    assert select(capsys, "--shards", copy, "--rules", folder / "mine.toml")[1] == expected


def damage_manifest(first, _second):
    first.with_suffix(".manifest.json").unlink()


def damage_content(first, _second):
    size = first.stat().st_size
    first.write_bytes(b"\0" * size)


def damage_kind(first, _second):
    pl.DataFrame({"video_id": ["a"]}).write_parquet(first)


def damage_size(first, _second):
    first.write_bytes(first.read_bytes() + b"\0")


def damage_exchange(first, second):
    shutil.copy(second, first)
    shutil.copy(second.with_suffix(".manifest.json"), first.with_suffix(".manifest.json"))


def damage_footer(first, _second):
    payload = bytearray(first.read_bytes())
    length = int.from_bytes(payload[-8:-4], "little")
    payload[-8 - length : -8] = bytes(length)
    first.write_bytes(payload)


DAMAGES = {
    damage_footer: (1, "content should be a parquet file"),
    damage_manifest: (1, "manifest should be"),
    damage_content: (1, "content should be a parquet file"),
    damage_kind: (1, "should be"),
    damage_size: (1, "size in bytes should be"),
    damage_exchange: (2, "is in 2 shards"),
}


def test_damaged_shard_in_a_folder_is_refused(selected, capsys, monkeypatch):
    """Each kind of damage gets one sentence that says what is wrong."""
    pair, folder = selected
    monkeypatch.setenv("DATABASE_URL", "")
    for damage, (expected_code, says) in DAMAGES.items():
        copy = copy_results(pair, folder / damage.__name__)
        damage(*sorted(copy.rglob("*.parquet")))
        code, _, err = select(capsys, "--shards", copy, "--rules", folder / "mine.toml")
        assert says in err, damage.__name__
        assert code == expected_code


def damage_chunk(first, _second):
    """Replace the shard by the same rows of another chunk, with the same size."""
    provenance = read_file_provenance(first)
    first.write_bytes(encode_table(pq.read_table(first), replace(provenance, chunk_id=UUID(int=1))))


def test_ledger_checks_size_and_provenance_of_a_folder_copy(selected, capsys):
    """A foreign file under a committed shard's name is refused by name, and its rows are not read."""
    pair, folder = selected
    for damage, says in (
        (damage_footer, "content should be a parquet file"),
        (damage_size, "size in bytes should be"),
        (damage_chunk, "provenance should be"),
    ):
        copy = copy_results(pair, folder / damage.__name__)
        first, second = sorted(copy.rglob("*.parquet"))
        damage(first, second)
        code, _, err = select(capsys, "--shards", copy, "--rules", folder / "mine.toml")
        assert says in err, damage.__name__
        assert first.name in err
        assert code == 1


REFUSED = {
    "a column that does not exist": (["--rules", "{typo}"], "no column ear_peek; the nearest is ear_peak"),
    "rules that are not there": (["--rules", "none.toml"], "rules file none.toml cannot be read"),
    "a version that is not there": (["--rules", "local-9"], "no rules are called 'local-9'"),
    "a suite without shards": (["--suite", "vad"], "no committed shard is of suite 'vad'; there are shards of pair"),
    "a verdict": (["--keep", "good"], "'good' is not a verdict"),
    "an ending": (["out.csv"], "the ending names no format"),
    "a folder": (["/nowhere/out.jsonl", "--rules", "{mine}"], "folder /nowhere does not exist"),
    "a revision": (["--revision", "r0"], "no committed shard is of revision 'r0'; there are "),
    "a video": (["--explain", "zz/0", "--rules", "{mine}"], "no committed shard holds video 'zz'"),
    "a segment": (["--explain", "a/9", "--rules", "{mine}"], "video a has no segment '9': it has 2"),
    "an empty folder": (["--shards", "{folder}"], "is missing"),
}


def test_bad_input_gets_one_sentence_and_exit_code_2(selected, capsys):
    """The sentence names what does not exist, and what exists instead."""
    _, folder = selected
    (folder / "typo.toml").write_text(RULES.replace("ear_peak", "ear_peek"))
    names = {"typo": folder / "typo.toml", "mine": folder / "mine.toml", "folder": folder}
    for what, (arguments, says) in REFUSED.items():
        code, _, err = select(capsys, *(argument.format(**names) for argument in arguments))
        assert says in err, what
        assert code == 2


def test_requeue_by_verdict_reads_the_shards(selected, monkeypatch):
    """Videos are requeued by their segments' verdicts, which only the shards hold."""
    pair, _ = selected
    monkeypatch.setattr("validation.cli.results.find_rules", lambda *_: pair.scorer.rules)
    assert main(["requeue", "--verdict", "reject", "--dry-run"]) == 0
    assert set(statuses(pair.box.engine).values()) == {"validated"}
    assert main(["requeue", "a", "--verdict", "reject,review"]) == 0
    assert statuses(pair.box.engine) == {"a": "pending", "b": "validated"}

"""An export is sharded, checked by sums, described by a card, and continued after an interruption."""

import json
import os
import resource
import subprocess
import sys
from signal import SIGKILL

import numpy as np
import polars as pl
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from validation.analysis.export import run as export_run
from validation.analysis.export.samples import MAX_PREFETCHED_VIDEOS, freeze_selection, speaker_key, to_pcm
from validation.errors import Transient


@pytest.fixture
def tiny_shards(monkeypatch):
    """Close a shard after one sample, whatever `--shard-mb` says."""
    original = export_run.ExportPlan
    monkeypatch.setattr(export_run, "ExportPlan", lambda **facts: original(**facts | {"shard_bytes": 1}))


def content(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".export" not in path.parts
    }


def test_checksums_cover_every_file(export, tmp_path):
    """`sha256sum -c` accepts the export, and no file but the list itself is without a sum."""
    assert export("nemo") == 0
    out = tmp_path / "out"
    subprocess.run(["sha256sum", "--quiet", "-c", "checksums.sha256"], cwd=out, check=True)
    listed = {line.split("  ")[1] for line in (out / "checksums.sha256").read_text().splitlines()}
    assert listed == set(content(out)) - {"checksums.sha256"}


def test_card_has_hours_rules_and_licence(export, tmp_path):
    """The card counts hours by language, and names the selection, the licence and how to read the export."""
    assert export("webdataset", "--license", "cc-by-4.0") == 0
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith('---\nlicense: cc-by-4.0\nlanguage:\n- "hi"\n- "ta"\n')
    for shown in ("9 segments", "| hi | 6 |", "| ta | 3 |", "kept.parquet", "train-{000000..000000}.tar"):
        assert shown in card, shown


def test_shards_are_cut_by_size(export, tmp_path, tiny_shards):
    """A shard that has reached the size is closed, and the next sample begins another."""
    assert export("lhotse-shar") == 0
    assert len(list((tmp_path / "out/shar").glob("recording.*.tar"))) == 9


@pytest.mark.parametrize("form", ["nemo", "nemo-tarred", "lhotse-shar", "hf", "kaldi"])
def test_interrupted_export_continues_to_the_same_files(export, tmp_path, tiny_shards, monkeypatch, form):
    """Cut off while the source is away, an export continues where it was, and ends with the bytes of a whole one."""
    assert export(form, out=tmp_path / "whole") == 0
    fetch, calls = export_run.read_samples, []

    def fail_later(*arguments, **options):
        for number, sample in enumerate(fetch(*arguments, **options)):
            if number == 4 and not calls:
                calls.append(number)
                raise Transient("the source is away")
            yield sample

    monkeypatch.setattr(export_run, "read_samples", fail_later)
    assert export(form) == 3
    assert len(json.loads((tmp_path / "out/.export/state.json").read_text())["shards"]) == 4
    assert export(form) == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


PROGRAM = """
import os, sys
from signal import SIGKILL
from validation.analysis.export import run
from validation.cli.main import main
check_in, count = run._publish_staged, []
def die(*arguments):
    count.append(1)
    if len(count) == 3:
        original = run.Path.replace
        def first_then_die(self, target):
            original(self, target)
            os.kill(os.getpid(), SIGKILL)
        run.Path.replace = first_then_die
    check_in(*arguments)
run._publish_staged = die
plan = run.ExportPlan
run.ExportPlan = lambda **facts: plan(**facts | {"shard_bytes": 1})
sys.exit(main(["export", "nemo-tarred", *sys.argv[1:]]))
"""


def test_killed_export_continues_to_the_same_files(export, source, tmp_path, tiny_shards):
    """SIGKILL while a shard is moved into place costs that shard's work and nothing else."""
    assert export("nemo-tarred", out=tmp_path / "whole") == 0
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "out"), "--selection", str(tmp_path / "kept.parquet")]
    environment = os.environ | {"VFLEET_SOURCE_URL": source.url}
    assert subprocess.run(command, env=environment, check=False).returncode == -SIGKILL
    assert export("nemo-tarred") == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_finished_export_is_not_repeated(export, tmp_path):
    """The same command again reads nothing and changes nothing."""
    assert export("nemo") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert export("nemo") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_missing_audio_is_listed_and_the_rest_exported(export, source, tmp_path, capsys):
    """A tar that is gone, a segment that is gone, and audio of another length: each with its reason, exit code 1."""
    changed = source.rows.with_columns(
        pl.when(video_id="sliced").then(pl.lit("gone")).otherwise("video_id").alias("video_id"),
        pl.when(video_id="shar", segment_index=0).then(9.0).otherwise("duration_s").alias("duration_s"),
        pl.when(video_id="indexed", segment_index=1).then(pl.lit("clips/z")).otherwise("segment").alias("segment"),
    )
    changed.write_parquet(tmp_path / "changed.parquet")
    assert export("nemo", selection=tmp_path / "changed.parquet") == 1
    assert "4 selected segments have no audio" in capsys.readouterr().out
    reasons = [json.loads(line) for line in (tmp_path / "out/missing.jsonl").read_text().splitlines()]
    assert {(row["video_id"], row["reason"].partition(":")[0]) for row in reasons} == {
        ("gone", "object 'gone.tar' does not exist in file"), ("indexed", "its tar no longer holds this segment"),
        ("shar", "its audio changed"),
    }  # fmt: skip
    assert len((tmp_path / "out/manifest.jsonl").read_text().splitlines()) == 5


def test_full_disk_keeps_finished_shards(export, tmp_path, tiny_shards, capsys):
    """A full disk is one sentence with exit code 2, and the export continues once there is room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard))
    try:
        assert export("webdataset") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path / 'out'} cannot be written: File too large" in capsys.readouterr().err
    assert export("webdataset") == 0
    subprocess.run(["sha256sum", "--quiet", "-c", "checksums.sha256"], cwd=tmp_path / "out", check=True)


def test_folder_of_another_export_is_refused(export, tmp_path, capsys):
    """Another format, other files, no rows: one sentence each, exit code 2, and nothing is changed."""
    assert export("nemo") == 0
    assert export("kaldi") == 2
    assert "holds an export with format 'nemo', not 'kaldi'" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    assert export("nemo", out=tmp_path / "mine") == 2
    assert "is not empty and holds no export" in capsys.readouterr().err
    pl.read_parquet(tmp_path / "kept.parquet").clear().write_parquet(tmp_path / "none.parquet")
    assert export("nemo", selection=tmp_path / "none.parquet", out=tmp_path / "new") == 2
    assert "no segment is selected" in capsys.readouterr().err
    (tmp_path / "text.parquet").write_text("not parquet")
    assert export("nemo", selection=tmp_path / "text.parquet", out=tmp_path / "other") == 2
    assert "is not a selection in parquet" in capsys.readouterr().err


@given(st.lists(st.tuples(st.text(max_size=3), st.none() | st.text(max_size=3)), max_size=30))
def test_speaker_keys_are_unique_and_sort_like_their_utterances(speakers):
    """Different speakers have different keys without `.` and `/`; keys with an index sort in the keys' order."""
    keys = {speaker: speaker_key(*speaker) for speaker in speakers if speaker[1] != ""}
    assert len(set(keys.values())) == len(keys)
    assert not any(set(key) & set("./ ") for key in keys.values())
    ordered = sorted(keys.values())
    assert sorted(f"{key}+000001" for key in ordered) == [f"{key}+000001" for key in ordered]


def test_frozen_list_is_sorted_in_parts_like_at_once(source, tmp_path, monkeypatch):
    """The order does not depend on how many rows are sorted at a time."""
    assert freeze_selection(source.rows.lazy(), tmp_path / "once.parquet") == 9
    monkeypatch.setattr("validation.analysis.export.samples.PART_ROWS", 2)
    assert freeze_selection(source.rows.sample(fraction=1, shuffle=True).lazy(), tmp_path / "parts.parquet") == 9
    assert pl.read_parquet(tmp_path / "once.parquet").equals(pl.read_parquet(tmp_path / "parts.parquet"))


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_sixteen_bit_audio_is_exported_bit_by_bit(values):
    """Samples that were decoded from 16 bits become the same 16 bits again."""
    pcm = np.array(values, np.int16)
    assert np.array_equal(to_pcm(pcm.astype(np.float32) / 32768), pcm)


def test_few_videos_are_held_at_a_time():
    """A decoded video may take gigabytes."""
    assert MAX_PREFETCHED_VIDEOS <= 3


def test_audio_files_are_sixteen_bit(export, tmp_path):
    """FLAC at 16 kHz, mono."""
    assert export("hf-audiofolder") == 0
    for path in (tmp_path / "out").rglob("*.flac"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")

"""Each export format is read back by its own tool, or by a reader written from its documentation, sample by sample."""

import io
import json
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import soundfile

READ_TIMEOUT_S = 100


def read_with(program: str, folder, tmp_path) -> dict[tuple[str, int], tuple[np.ndarray, str]]:
    """Run a reader in a process of its own. It fills `found` with (video, index) -> (int16 samples, text)."""
    complete = f"""
import sys, pickle
import numpy as np
folder = sys.argv[1]
found = {{}}
def pcm(audio):
    return np.rint(np.asarray(audio, np.float64).reshape(-1) * 32768).astype(np.int16)
{program}
pickle.dump(found, open(sys.argv[2], "wb"))
"""
    path = tmp_path / "found.pickle"
    done = subprocess.run(
        [sys.executable, "-c", complete, str(folder), str(path)], capture_output=True, text=True, check=False,
        timeout=READ_TIMEOUT_S, cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1",
            "LHOTSE_AUDIO_BACKEND": "LibsndfileBackend",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    import pickle

    return pickle.loads(path.read_bytes())


def check(found, source) -> None:
    """Every segment is there once, with its text and exactly its samples."""
    assert {key: text for key, (_, text) in found.items()} == source.texts
    for key, (samples, _) in found.items():
        assert np.array_equal(samples, source.expected[key]), key


def test_webdataset_reads_the_export(export, source, tmp_path):
    """WebDataset itself yields one sample per segment with audio, text and description."""
    pytest.importorskip("webdataset", reason="installed by the extra `test`")
    assert export("webdataset") == 0
    program = """
import glob, io, json, soundfile, webdataset
for s in webdataset.WebDataset(sorted(glob.glob(folder + "/train-*.tar")), shardshuffle=False):
    row = json.loads(s["json"])
    audio, rate = soundfile.read(io.BytesIO(s["flac"]))
    assert rate == 16000
    found[row["video_id"], row["segment_index"]] = pcm(audio), s["txt"].decode()
"""
    check(read_with(program, tmp_path / "out", tmp_path), source)


@pytest.mark.parametrize("form", ["lhotse", "lhotse-shar"])
def test_lhotse_reads_the_export(export, source, tmp_path, form):
    """Lhotse itself loads every cut with its supervision."""
    pytest.importorskip("lhotse", reason="installed by the extra `test`")
    assert export(form) == 0
    opened = {
        "lhotse": 'CutSet.from_file(folder + "/cuts.jsonl.gz").with_recording_path_prefix(folder)',
        "lhotse-shar": 'CutSet.from_shar(in_dir=folder + "/shar")',
    }
    program = f"""
from lhotse import CutSet
for cut in {opened[form]}:
    (s,) = cut.supervisions
    assert s.recording_id == cut.recording.id and cut.sampling_rate == 16000
    found[s.custom["video_id"], int(cut.id.rpartition("-")[2])] = pcm(cut.load_audio()), s.text
"""
    check(read_with(program, tmp_path / "out", tmp_path), source)


def test_hugging_face_datasets_reads_the_export(export, source, tmp_path):
    """`datasets` itself finds an Audio column, and its bytes are the segments' samples."""
    pytest.importorskip("datasets", reason="installed by the extra `test`")
    assert export("hf") == 0
    program = """
import io, datasets, soundfile
loaded = datasets.load_dataset("parquet", data_files=folder + "/data/*.parquet", split="train")
assert isinstance(loaded.features["audio"], datasets.Audio), loaded.features
for row in loaded.cast_column("audio", datasets.Audio(decode=False)):
    audio = pcm(soundfile.read(io.BytesIO(row["audio"]["bytes"]))[0])
    found[row["video_id"], row["segment_index"]] = audio, row["text"]
"""
    check(read_with(program, tmp_path / "out", tmp_path), source)


def test_audiofolder_names_each_file_in_its_metadata(export, source, tmp_path):
    """By the documentation of `datasets`: `metadata.jsonl` with `file_name`, relative to its folder."""
    assert export("hf-audiofolder") == 0
    rows = [json.loads(line) for line in (tmp_path / "out/metadata.jsonl").read_text().splitlines()]
    found = {
        (row["video_id"], row["segment_index"]): (
            soundfile.read(tmp_path / "out" / row["file_name"], dtype="int16")[0],
            row["text"],
        )
        for row in rows
    }
    check(found, source)


def read_nemo(folder, entry) -> tuple[np.ndarray, str]:
    samples, rate = soundfile.read(folder / entry["audio_filepath"], dtype="int16")
    assert (rate, entry["duration"]) == (16_000, len(samples) / 16_000)
    return samples, entry["text"]


def test_nemo_manifest_names_audio_beside_it(export, source, tmp_path):
    """By NeMo's documentation: one JSON per line with audio_filepath (relative to the manifest), duration and text."""
    assert export("nemo") == 0
    entries = [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]
    check({(e["video_id"], e["segment_index"]): read_nemo(tmp_path / "out", e) for e in entries}, source)
    assert {entry["lang"] for entry in entries} == {"hi", "ta"}


def test_nemo_tars_match_their_manifests(export, source, tmp_path):
    """By NeMo's documentation: `audio_N.tar`, entries with `shard_id` N, unique base names, a manifest per shard."""
    assert export("nemo-tarred", "--shard-mb", "1") == 0
    out, found = tmp_path / "out", {}
    manifest = (out / "tarred_audio_manifest.json").read_text().splitlines()
    for entry in map(json.loads, manifest):
        with tarfile.open(out / f"audio_{entry['shard_id']}.tar") as tar:
            payload = tar.extractfile(entry["audio_filepath"]).read()
        found[entry["video_id"], entry["segment_index"]] = (
            soundfile.read(io.BytesIO(payload), dtype="int16")[0],
            entry["text"],
        )
    check(found, source)
    assert (out / "sharded_manifests/manifest_0.json").read_text().splitlines() == manifest


def test_kaldi_folder_is_sorted_and_complete(export, source, tmp_path):
    """By Kaldi's documentation: tables sorted in the C locale by utterance and by speaker, one line per utterance."""
    assert export("kaldi") == 0
    out = tmp_path / "out"
    tables = {
        name: [line.split(" ", 1) for line in (out / name).read_text().splitlines()]
        for name in ("wav.scp", "text", "utt2spk", "utt2dur", "utt2lang")
    }
    for name, rows in tables.items():
        keys = [key for key, _ in rows]
        assert keys == sorted(set(keys), key=str.encode), name
        assert keys == [key for key, _ in tables["text"]]
    speakers = [speaker for _, speaker in tables["utt2spk"]]
    assert speakers == sorted(speakers, key=str.encode)
    assert all(key.startswith(speaker) for key, speaker in tables["utt2spk"])
    texts, durations = dict(tables["text"]), dict(tables["utt2dur"])
    expected = sorted((text, len(source.expected[key])) for key, text in source.texts.items())
    found = []
    for key, path in tables["wav.scp"]:
        samples, rate = soundfile.read(out / path, dtype="int16")
        assert rate == 16_000
        assert float(durations[key]) == pytest.approx(len(samples) / rate, abs=1e-4)
        assert any(np.array_equal(samples, wanted) for wanted in source.expected.values())
        found.append((texts[key], len(samples)))
    assert sorted(found) == expected

"""A source of four videos, one per tar layout, and a selection of all their segments with known samples."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.corpus_samples import encode, make_tar
from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Video
from validation.settings import Settings
from validation.storage.store import open_store

WHOLE = (np.arange(-20_000, 44_000) % 32_768).astype(np.int16)
"""Four seconds in which every stretch is different, so that a shift by one sample is seen."""


def take(start_s: float, end_s: float) -> np.ndarray:
    return WHOLE[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]


def flac(start_s: float, end_s: float) -> bytes:
    return encode(take(start_s, end_s), subtype="PCM_16")


def lines(*rows) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@dataclass
class Source:
    """Tars under `folder`, and what each segment sounds like."""

    folder: Path
    rows: pl.DataFrame
    expected: dict[tuple[str, int], np.ndarray]

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    @property
    def texts(self) -> dict[tuple[str, int], str]:
        return {(row["video_id"], row["segment_index"]): row["text"] for row in self.rows.iter_rows(named=True)}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("source")
    tars = {
        "-pairs.v1": pack_video(
            Video("-pairs.v1", "hi", 2), [PackedSegment(flac(0, 1), "एक दो"), PackedSegment(flac(1, 2), "three")]
        ),
        "indexed": make_tar({
            "clips/a.flac": flac(0, 1.5), "clips/b.wav": encode(take(1.5, 2), "WAV", "PCM_16"),
            "metadata.jsonl": lines(
                {"file": "clips/a.flac", "text": "first", "speaker": "S/1"}, {"file": "clips/b.wav", "text": "second"}
            ),
        }),
        "sliced": make_tar({
            "long.wav": encode(WHOLE, "WAV", "PCM_16"),
            "manifest.json": [
                {"text": "cut one", "start": 0.25, "end": 1.75}, {"text": "cut two", "start": 2.0001, "end": 3.5},
            ],
        }),
        "shar": make_tar({
            "c-1.flac": flac(0, 1), "c-2.flac": flac(1, 4),
            "cuts.000000.jsonl": lines(
                {"id": "c-1", "supervisions": [{"text": "whole", "start": 0, "duration": 1, "speaker": "A"}]},
                {"id": "c-2", "supervisions": [
                    {"text": "x", "start": 0.5, "duration": 1}, {"text": "y", "start": 1.5, "duration": 1.25},
                ]},
            ),
        }),
    }  # fmt: skip
    for video_id, tar in tars.items():
        (folder / f"{video_id}.tar").write_bytes(tar)
    store, rows, expected = open_store(f"file://{folder}", Settings()), [], {}
    for video_id in tars:
        decoded = fetch_video(store, f"{video_id}.tar", Video(video_id, "hi", None))
        assert video_id.strip("-").startswith(decoded.layout)
        for index, each in enumerate(decoded.segments):
            segment = each.segment
            expected[video_id, index] = np.rint(each.audio * 32768).astype(np.int16)
            rows.append({
                "video_id": video_id, "segment_index": index, "segment": segment.name, "text": segment.text,
                "language": "Hindi", "language_code": "hi" if video_id != "shar" else "ta", "speaker": segment.speaker,
                "duration_s": len(each.audio) / SAMPLE_RATE, "verdict": "accept",
            })  # fmt: skip
    return Source(folder, pl.DataFrame(rows), expected)


@pytest.fixture
def export(source, tmp_path, monkeypatch):
    """Run `vfleet export` on the selection; returns the exit code."""
    from validation.cli.main import main

    monkeypatch.setenv("VFLEET_SOURCE_URL", source.url)
    source.rows.write_parquet(tmp_path / "kept.parquet")

    def run(form: str, *options: str, selection: Path | None = None, out: Path | None = None) -> int:
        arguments = ["--selection", str(selection or tmp_path / "kept.parquet"), *options]
        return main(["export", form, str(out or tmp_path / "out"), *arguments])

    return run

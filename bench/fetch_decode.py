"""Compare the CPU time to fetch and decode tars of 16 kHz FLAC with plain programs, per hour of audio.

    python bench/fetch_decode.py [--minutes 60] [--rounds 5]

The tars hold real speech of the sample corpus and lie behind an HTTP server in a process of its own, whose CPU time is
not counted. The arms run in turn in one thread:

- `fetch_video`: what a worker does. It also finds the layout, reads the records, and checks every limit.
- plain: `obstore.get`, Python's `tarfile`, and `soundfile` with the file objects of `tarfile`.
- bare libsndfile: `soundfile` alone, with the FLAC files in memory.

All arms must give the same samples, or the script stops before it prints times. CPU time is that of this process with
all threads, as the median of the rounds. The script prints a table and writes bench/out/fetch_decode.json.
"""

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import obstore
import soundfile
from obstore.store import ObjectStore

from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Fault, Video, Waveform
from validation.local.sample_corpus import decode_clip, load_clips
from validation.settings import Settings
from validation.storage.store import open_store

OUT = Path(__file__).parent / "out"
VIDEO_MINUTES = 10
SEGMENT_LENGTHS_S = 10.0, 3.0
BUCKET = "source"
OURS, PLAIN, BARE = "fetch_video", "plain: obstore, tarfile, soundfile", "bare libsndfile"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = []
    for segment_s in SEGMENT_LENGTHS_S:
        with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder, serve_files(Path(folder)) as store:
            videos = write_videos(Path(folder) / BUCKET, options.minutes, segment_s)
            results.append(compare_arms(store, Path(folder) / BUCKET, videos, segment_s, options.rounds))
    report(results)


@contextmanager
def serve_files(folder: Path) -> Iterator[ObjectStore]:
    """Serve a folder over HTTP in a process of its own, and open it as an S3 store."""
    (folder / BUCKET).mkdir()
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            port = server.stdout.readline().split(" port ")[1].split()[0]
            values = {
                "ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "ACCESS_KEY_ID": "bench",
                "SECRET_ACCESS_KEY": "bench",
            }
            settings = Settings.model_validate({f"R2_{name}": value for name, value in values.items()})
            yield open_store(f"s3://{BUCKET}", settings)
        finally:
            server.terminate()


def write_videos(folder: Path, minutes: int, segment_s: float) -> list[Video]:
    """Write tars of ten minutes of speech, in segments of the given length that are cut from the sample corpus."""
    joined = np.concatenate([decode_clip(name) for name in load_clips()])
    length, per_video = round(segment_s * SAMPLE_RATE), round(VIDEO_MINUTES * 60 / segment_s)
    generator = np.random.default_rng(0)
    videos = [Video(f"video{n:02d}", "hi", per_video) for n in range(max(1, minutes // VIDEO_MINUTES))]
    for video in videos:
        starts = generator.integers(0, len(joined) - length, per_video)
        segments = [PackedSegment(joined[start : start + length], "text", "hi") for start in starts]
        (folder / f"{video.video_id}.tar").write_bytes(pack_video(video, segments))
    return videos


def compare_arms(
    store: ObjectStore, folder: Path, videos: Sequence[Video], segment_s: float, rounds: int
) -> dict[str, object]:
    tars = {video: (folder / f"{video.video_id}.tar").read_bytes() for video in videos}
    files = {video: list_flac_files(tar) for video, tar in tars.items()}
    arms: dict[str, Callable[[Video], list[Waveform]]] = {
        OURS: lambda video: fetch_ours(store, video),
        PLAIN: lambda video: decode_plainly(bytes(obstore.get(store, f"{video.video_id}.tar").bytes())),
        BARE: lambda video: [soundfile.read(io.BytesIO(file), dtype="float32")[0] for file in files[video]],
    }
    samples = check_equal(arms, videos)
    hours = samples / SAMPLE_RATE / 3600
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            started_s = time.process_time()
            for video in videos:
                arm(video)
            times[name].append((time.process_time() - started_s) / hours)
    return {
        "segment_s": segment_s,
        "hours": hours,
        "mb_per_hour": sum(map(len, tars.values())) / 1e6 / hours,
        "cpu_s_per_hour": {name: median(taken) for name, taken in times.items()},
        "spread": {name: [min(taken), max(taken)] for name, taken in times.items()},
    }


def fetch_ours(store: ObjectStore, video: Video) -> list[Waveform]:
    decoded = fetch_video(store, f"{video.video_id}.tar", video)
    return [segment.audio for segment in decoded.segments if not isinstance(segment.audio, Fault)]


def decode_plainly(tar: bytes) -> list[Waveform]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return [
            soundfile.read(members.extractfile(member), dtype="float32")[0]
            for member in members
            if member.name.endswith(".flac")
        ]


def list_flac_files(tar: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return [members.extractfile(member).read() for member in members if member.name.endswith(".flac")]  # type: ignore[union-attr]


def check_equal(arms: dict[str, Callable[[Video], list[Waveform]]], videos: Sequence[Video]) -> int:
    """Return the number of samples of all videos. Fail if the samples of the arms differ."""
    total = 0
    for video in videos:
        first, *others = [arm(video) for arm in arms.values()]
        for other in others:
            assert len(first) == len(other) == video.segment_count
            assert all(np.array_equal(one, two) for one, two in zip(first, other, strict=True)), "samples differ"
        total += sum(map(len, first))
    return total


def report(results: Sequence[dict[str, object]]) -> None:
    heads = [f"segments of {result['segment_s']:g} s" for result in results]
    print(f"{'CPU-s per hour of audio':40}" + "".join(f"{head:>24}" for head in heads))
    for name in (OURS, PLAIN, BARE):
        cells = []
        for result in results:
            taken = result["cpu_s_per_hour"]
            cells.append(f"{taken[name]:14.2f} {taken[name] / taken[BARE]:8.2f}x")  # type: ignore[index]
        print(f"{name:40}" + "".join(cells))
    OUT.mkdir(exist_ok=True)
    (OUT / "fetch_decode.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

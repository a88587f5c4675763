"""Measure the CPU time and bandwidth that a box needs per hour of audio, in addition to its GPU.

    python bench/sizing.py [--segments 60] [--rounds 3] [--rate 25]

Decoding: `fetch_video` reads and decodes a tar from a local store, with one thread. The tar holds real speech of the
sample corpus in segments of 10 s, as FLAC with 16 kHz. `decode_audio` decodes the same speech as FLAC, MP3 and Opus
with 48 kHz and two channels.

Text and CTC: an IndicConformer has the real vocabulary size and frame rate but a tiny random network. So its CPU time
is that of all steps except the network. The size of the CTC lattice (frames x states) is counted, because the time of
CTC grows with it.

Silero VAD: the real weights in ONNX Runtime. On a box with a GPU it runs there.

Batching: the audio is copied once into the arena and once into the batch.

CPU time is that of this process, as the median of the rounds. The script prints a table and writes
bench/out/sizing.json. ``--rate`` is the number of segments of 10 s per second for which the table shows cores and
bandwidth.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # read when torch and numpy are imported

import numpy as np
import soundfile
import torch

from simulation.tiny_models.conformer import LETTERS, save_conformer
from validation.corpus.audio import decode_audio
from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Scored, Utterance, Video, Waveform
from validation.hardware.device import DeviceConfig
from validation.inference.protocol import Arena
from validation.local.sample_corpus import decode_clip, load_clips
from validation.models.batching import pad_batch
from validation.models.conformer.model import IndicConformer
from validation.models.silero import SileroVad
from validation.models.weights_folder import hash_weights_folders, write_lock
from validation.settings import Settings
from validation.storage.store import open_store

OUT = Path(__file__).parent / "out"
SEGMENT_S = 10.0
BATCH = 20
LETTERS_PER_S = 6
"""Letters per second in a transcript. The tiny vocabulary has about one token per letter, more than the real one."""
OTHER_FORMATS = {
    "FLAC 48 kHz stereo": ("FLAC", "PCM_16"),
    "MP3 48 kHz stereo": ("MP3", None),
    "Opus 48 kHz stereo": ("OGG", "OPUS"),
}


def main() -> None:
    options = parse_options()
    torch.set_num_threads(1)
    speech = make_speech(options.segments)
    hours = sum(map(len, speech)) / SAMPLE_RATE / 3600
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        results |= measure_corpus(Path(folder), speech, options.rounds)
        for name, (container, subtype) in OTHER_FORMATS.items():
            results[f"decode {name}"] = measure_format(speech, container, subtype, options.rounds)
        results["Silero VAD"] = measure_silero(speech, options.rounds)
        results |= measure_conformer(Path(folder) / "weights", speech, options.rounds)
    results["copy into arena and batch"] = measure_copies(speech, options.rounds)
    per_hour = {name: {unit: value / hours for unit, value in own.items()} for name, own in results.items()}
    report(per_hour, hours, options.rate)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=25.0, help="segments of 10 s per second")
    return parser.parse_args()


def make_speech(count: int) -> list[Waveform]:
    """Join the clips of the sample corpus, and cut ``count`` segments of 10 s with different starts from the result."""
    joined = np.concatenate([decode_clip(name) for name in load_clips()])
    length = int(SEGMENT_S * SAMPLE_RATE)
    starts = np.linspace(0, len(joined) - length, count).astype(int)
    return [joined[start : start + length] for start in starts]


def cpu_s(work: Callable[[], object], rounds: int) -> float:
    """Return the CPU seconds of one call, as the median of the rounds after one warm-up call."""
    work()
    times = []
    for _ in range(rounds):
        started_s = time.process_time()
        work()
        times.append(time.process_time() - started_s)
    return statistics.median(times)


def measure_corpus(folder: Path, speech: Sequence[Waveform], rounds: int) -> dict[str, dict[str, float]]:
    video = Video("sizing", "hi", len(speech))
    tar = pack_video(video, [PackedSegment(audio, "text") for audio in speech])
    (folder / "sizing.tar").write_bytes(tar)
    store = open_store(folder.as_uri(), Settings())
    seconds = cpu_s(lambda: fetch_video(store, "sizing.tar", video), rounds)
    return {"fetch FLAC 16 kHz mono": {"cpu_s": seconds, "bytes": len(tar)}}


def measure_format(speech: Sequence[Waveform], container: str, subtype: str | None, rounds: int) -> dict[str, float]:
    files = [encode_stereo(audio, container, subtype) for audio in speech]
    seconds = cpu_s(lambda: [decode_audio(file) for file in files], rounds)
    return {"cpu_s": seconds, "bytes": sum(map(len, files))}


def encode_stereo(audio: Waveform, container: str, subtype: str | None) -> bytes:
    """Encode audio as 48 kHz stereo. Linear interpolation suffices, because only the size of the audio matters here."""
    times = np.arange(3 * len(audio)) / 3
    tripled = np.interp(times, np.arange(len(audio)), audio).astype(np.float32)
    encoded = io.BytesIO()
    soundfile.write(encoded, np.stack([tripled, tripled], 1), 3 * SAMPLE_RATE, format=container, subtype=subtype)
    return encoded.getvalue()


class MeteredEngine:
    """A wrapper that sums up the CPU time of all calls of a Conformer engine."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.cpu_s = engine, 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._engine, name)
        if not callable(attribute):
            return attribute

        def metered(*args: Any, **options: Any) -> Any:
            started_s = time.process_time()
            try:
                return attribute(*args, **options)
            finally:
                self.cpu_s += time.process_time() - started_s

        return metered


def measure_conformer(weights: Path, speech: Sequence[Waveform], rounds: int) -> dict[str, dict[str, float]]:
    """Measure the CPU time of IndicConformer without its network, inside the engine and after the engine."""
    save_conformer(weights / "indicconformer-600m")
    write_lock(weights / "weights.lock", hash_weights_folders(weights))
    model = IndicConformer(threads=1, root=weights, device_config=DeviceConfig())
    engine = model._engine = MeteredEngine(model._engine)  # noqa: SLF001 - there is no public setter
    utterances = [Utterance(audio, make_text(n), "hi") for n, audio in enumerate(speech)]
    batches = [pad_batch(utterances[start : start + BATCH]) for start in range(0, len(utterances), BATCH)]
    inside: list[float] = []

    def score() -> None:
        engine.cpu_s = 0.0
        for batch in batches:
            model.score(batch)
        inside.append(engine.cpu_s)

    total = cpu_s(score, rounds)
    engine_s = statistics.median(inside[1:])
    values = [a.values for batch in batches for a in model.score(batch) if isinstance(a, Scored)]
    assert all(v["feasible"] for v in values), "a transcript does not fit in its frames, so CTC is not measured"
    lattice = sum(v["frames"] * (2 * v["tokens"] + 1) for v in values)
    tokens = sum(v["tokens"] for v in values)
    return {
        "Conformer features, log-softmax": {"cpu_s": engine_s},
        "Conformer languages, CTC, text": {"cpu_s": total - engine_s, "lattice": lattice, "tokens": tokens},
    }


def measure_silero(speech: Sequence[Waveform], rounds: int) -> dict[str, float]:
    """Measure the CPU time of Silero VAD in ONNX Runtime, as on a box without a GPU."""
    model, batch = SileroVad(threads=1), pad_batch([Utterance(audio, "", None) for audio in speech])
    return {"cpu_s": cpu_s(lambda: model.score(batch), rounds)}


def make_text(seed: int) -> str:
    """Make words of random letters of the tiny model's Hindi vocabulary."""
    letters = [chr(LETTERS["hi"] + 0x15 + n) for n in range(32)]
    drawn = np.random.default_rng(seed).choice(letters, int(SEGMENT_S * LETTERS_PER_S))
    return " ".join("".join(drawn[start : start + 5]) for start in range(0, len(drawn), 5))


def measure_copies(speech: Sequence[Waveform], rounds: int) -> dict[str, float]:
    utterances = [Utterance(audio, "", None) for audio in speech]
    arena = Arena(4 * sum(map(len, speech)))

    def copy() -> None:
        offset = 0
        for audio in speech:
            arena.write(offset, audio)
            offset += len(audio)
        pad_batch(utterances)

    return {"cpu_s": cpu_s(copy, rounds), "bytes": 2 * 4 * sum(map(len, speech))}


def report(per_hour: dict[str, dict[str, float]], hours: float, rate: float) -> None:
    hours_per_s = rate * SEGMENT_S / 3600
    print(f"{hours * 3600:.0f} s of audio in segments of {SEGMENT_S:.0f} s; one thread; per hour of audio")
    print(f"{'part':34} {'CPU s':>8} {'MB':>8}   at {rate:g} segments/s: {'cores':>6} {'MB/s':>7}")
    for name, own in per_hour.items():
        size, bandwidth = (
            (f"{own['bytes'] / 1e6:.1f}", f"{own['bytes'] / 1e6 * hours_per_s:.1f}") if "bytes" in own else ("", "")
        )
        print(f"{name:34} {own['cpu_s']:8.2f} {size:>8} {'':20} {own['cpu_s'] * hours_per_s:6.2f} {bandwidth:>7}")
    text = per_hour["Conformer languages, CTC, text"]
    print(
        f"CTC lattice: {text['lattice'] / 1e6:.1f} million cells (frames x states) per hour of audio, "
        f"{text['tokens'] / 3600:.1f} tokens per second"
    )
    OUT.mkdir(exist_ok=True)
    written = {"hours": hours, "segments_per_s": rate, "per_hour": per_hour}
    (OUT / "sizing.json").write_text(json.dumps(written, indent=1))


if __name__ == "__main__":
    main()

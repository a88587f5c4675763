"""Make the workload of the throughput benchmark: weights and tars, which are equal for all variants."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulation.tiny_models.conformer import ConformerSize, save_conformer
from simulation.tiny_models.language_id import MmsSize, save_mms, save_voxlingua
from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Utterance, Video, Waveform
from validation.models.weights_folder import hash_weights_folders, write_lock
from validation.settings import Settings
from validation.storage.store import open_store

MMS_SIZE = MmsSize(layers=8, hidden=160, feed_forward=640, heads=4, conv=48, classifier=64)
VOXLINGUA_CHANNELS = 32
CONFORMER_SIZE = ConformerSize(layers=4, width=128, heads=4, feed_forward=512, channels=32)
"""The sizes of the three models are such that their shares of the work are about those of the real models: 85, 12 and
3 %."""

MEDIAN_S, SIGMA = 2.0, 0.7
"""Median and sigma of log-normal lengths, which are clipped to 0.4 and 7.5 s. Their mean is 2.5 s, a quarter of the
10 s in the real corpus."""
TEXTS = ("नमस्ते दुनिया", "यह एक परीक्षा है", "कल बारिश होगी", "मेरा नाम क्या है")


@dataclass(frozen=True)
class Workload:
    """Tars in a folder, and the weights of the models that score them."""

    weights: Path
    tars: Path
    videos: tuple[Video, ...]

    def fetch(self, video: Video) -> list[Utterance]:
        """Read and decode the tar of one video. Every variant uses this function."""
        store = open_store(self.tars.as_uri(), Settings())
        decoded = fetch_video(store, f"{video.video_id}.tar", video)
        return [utterance for segment in decoded.segments if (utterance := segment.utterance_for(()))]


def make_workload(folder: Path, videos: int) -> Workload:
    weights, tars = folder / "weights", folder / "tars"
    save_mms(weights / "mms-lid-256", MMS_SIZE)
    save_voxlingua(weights / "voxlingua107-ecapa", channels=VOXLINGUA_CHANNELS)
    save_conformer(weights / "indicconformer-600m", CONFORMER_SIZE)
    write_lock(weights / "weights.lock", hash_weights_folders(weights))
    tars.mkdir()
    generator = np.random.default_rng(0)
    made = [_write_video(tars, f"bench{n:02d}", generator) for n in range(videos)]
    return Workload(weights, tars, tuple(made))


def draw_durations_s(generator: np.random.Generator, count: int) -> Sequence[float]:
    drawn = np.exp(generator.normal(np.log(MEDIAN_S), SIGMA, count)).clip(0.4, 7.5)
    return [float(duration_s) for duration_s in drawn]


def _write_video(tars: Path, name: str, generator: np.random.Generator) -> Video:
    durations_s = draw_durations_s(generator, int(generator.integers(40, 60)))
    segments = [
        PackedSegment(_voice(duration_s, generator), str(generator.choice(TEXTS))) for duration_s in durations_s
    ]
    video = Video(name, "hi", len(segments))
    (tars / f"{name}.tar").write_bytes(pack_video(video, segments))
    return video


def _voice(duration_s: float, generator: np.random.Generator) -> Waveform:
    """Make audio of a tone and noise, whose level changes with the rhythm of syllables."""
    t = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    syllables = np.abs(np.sin(2 * np.pi * generator.uniform(1, 4) * t)) + 0.1
    sound = np.sin(2 * np.pi * generator.uniform(90, 300) * t) + 0.3 * generator.standard_normal(len(t))
    return (generator.uniform(0.02, 0.2) * syllables * sound).astype(np.float32)

"""The corpus of the demo: real speech in the production layout.

Some segments and two whole videos have an injected fault. The result that the validation must report for each is known.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Video, Waveform

CLIPS = Path(__file__).parent / "clips"


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """An injected fault, and the reason that the validation must report for it."""

    video_id: str
    what: str
    """The fault in a few words, for the output of the demo."""
    segment: int | None = None
    """The index of the segment; None for a fault of the whole video."""
    reason: str = ""
    """Expected result. For a segment: a reason of its verdict. For a video: a part of its error message."""


@dataclass(frozen=True, slots=True)
class SampleVideo:
    """One video of the corpus."""

    queued: Video
    """The row of the video in the queue."""
    tar: bytes | None
    """The bytes of the video's tar; None if the missing tar is the injected fault."""


@dataclass(frozen=True, slots=True)
class SampleCorpus:
    """The videos to upload and queue, and the faults injected into them."""

    videos: tuple[SampleVideo, ...]
    faults: tuple[PlantedFault, ...]


def build_sample_corpus() -> SampleCorpus:
    """Build the corpus. Every call returns the same bytes."""
    clips = load_clips()
    english = ["en_librivox_0870", "en_librivox_0880", "en_librivox_0920", "en_librivox_0930"]
    clean = {
        "sense-and-sensibility": ("en", english),
        "counting-in-english": ("en", ["en_counting", "en_librivox_0870", "en_librivox_0920"]),
        "abecedaire": ("fr", ["fr_pangrama", "fr_comptage", "fr_bonjour_monde"]),
        "contagem": ("pt", ["pt_contagem", "pt_pangrama", "pt_ola_mundo"]),
        "pangramas": ("es", ["es_pangrama", "es_hola_mundo"]),
        "conteggio": ("it", ["it_conteggio", "it_ciao_mondo"]),
        "iroha": ("ja", ["ja_pangrama", "ja_kazoeru", "ja_konnichiwa_sekai"]),
        "jishu": ("zh", ["zh_jishu", "zh_nihao_shijie"]),
        "ginti": ("hi", ["hi_ginti"]),
    }
    videos = [
        pack(video_id, language, [clips[name] for name in names]) for video_id, (language, names) in clean.items()
    ]
    planted = [plant(clips) for plant in PLANTERS]
    return SampleCorpus(
        (*videos, *(video for video, _ in planted)), tuple(fault for _, faults in planted for fault in faults)
    )


def load_clips() -> dict[str, PackedSegment]:
    """Return the packaged clips by name, each with its correct transcript and language."""
    return {
        entry["file"].removesuffix(".flac"): PackedSegment(
            (CLIPS / entry["file"]).read_bytes(), entry["text"], entry["lang"]
        )
        for entry in json.loads((CLIPS / "manifest.json").read_text(encoding="utf-8"))
    }


def pack(
    video_id: str, language: str, segments: Sequence[PackedSegment], *, promised: int | None = None
) -> SampleVideo:
    """Pack one video. The segments carry no language, so the language of the video applies to them.

    ``promised`` is the segment count in the queue; None for the true count.
    """
    queued = Video(video_id, language, len(segments) if promised is None else promised)
    return SampleVideo(queued, pack_video(queued, [replace(segment, language=None) for segment in segments]))


Planted = tuple[SampleVideo, Sequence[PlantedFault]]
"""A video and the faults that were injected into it."""
Clips = dict[str, PackedSegment]
"""Name of a packaged clip -> its audio, transcript and language."""


def plant_wrong_language(clips: Clips) -> Planted:
    """Return a video of French speech that is labelled as Hindi."""
    name = "labelled-hindi"
    video = pack(name, "hi", [clips["fr_pangrama"], clips["fr_comptage"]])
    return video, [PlantedFault(name, "French labelled as Hindi", n, "wrong_language") for n in (0, 1)]


def plant_swapped_transcripts(clips: Clips) -> Planted:
    """Return a video with two segments whose transcripts are swapped, and a correct segment."""
    name = "swapped-texts"
    one, two = clips["en_librivox_0870"], clips["en_librivox_0920"]
    segments = [replace(one, text=two.text), replace(two, text=one.text), clips["en_librivox_0930"]]
    return pack(name, "en", segments), [
        PlantedFault(name, "transcripts swapped", n, "transcript_mismatch") for n in (0, 1)
    ]


def plant_noise_and_silence(clips: Clips) -> Planted:
    """Return a video with one segment with white noise at 0 dB SNR, one silent segment and one clean segment."""
    name = "noise-and-silence"
    noisy = replace(clips["en_librivox_0870"], audio=add_noise(decode_clip("en_librivox_0870"), snr_db=0.0))
    silent = replace(clips["en_librivox_0880"], audio=np.zeros(3 * SAMPLE_RATE, np.float32))
    video = pack(name, "en", [clips["en_librivox_0920"], noisy, silent])
    return video, [PlantedFault(name, "noise at 0 dB SNR", 1, "noisy"), PlantedFault(name, "silence", 2, "no_speech")]


def plant_corrupt_audio(clips: Clips) -> Planted:
    """Return a video with one FLAC file that cannot be decoded and one correct segment."""
    name = "corrupt-audio"
    broken = replace(clips["pt_contagem"], audio=b"fLaC" + bytes(range(256)) * 8)
    video = pack(name, "pt", [broken, clips["pt_pangrama"]])
    return video, [PlantedFault(name, "an undecodable audio file", 0, "undecodable")]


def plant_truncated_tar(clips: Clips) -> Planted:
    """Return a video whose tar is truncated in the middle, as by an interrupted upload."""
    name = "cut-upload"
    whole = pack(name, "it", [clips["it_conteggio"], clips["it_ciao_mondo"]])
    tar = whole.tar or b""
    return replace(whole, tar=tar[: len(tar) // 2]), [PlantedFault(name, "a truncated tar", reason="the tar is broken")]


def plant_missing_object(_clips: Clips) -> Planted:
    """Return a queued video whose tar is never uploaded."""
    name = "never-uploaded"
    return SampleVideo(Video(name, "es", 2), None), [PlantedFault(name, "a missing object", reason="does not exist")]


def plant_wrong_count(clips: Clips) -> Planted:
    """Return a video whose tar has fewer segments than the queue expects. It is validated like any other video."""
    name = "one-short"
    return pack(name, "fr", [clips["fr_comptage"], clips["fr_bonjour_monde"]], promised=3), []


PLANTERS: tuple[Callable[[Clips], Planted], ...] = (
    plant_wrong_language,
    plant_swapped_transcripts,
    plant_noise_and_silence,
    plant_corrupt_audio,
    plant_truncated_tar,
    plant_missing_object,
    plant_wrong_count,
)


def decode_clip(name: str) -> Waveform:
    """Decode a packaged clip (16 kHz mono FLAC) to a float32 waveform."""
    samples, _ = soundfile.read(CLIPS / f"{name}.flac", dtype="float32")
    return np.asarray(samples, np.float32)


def add_noise(audio: Waveform, *, snr_db: float) -> Waveform:
    """Add white noise with a fixed seed at the given signal-to-noise ratio, and clip to [-1, 1]."""
    noise = np.random.default_rng(20).standard_normal(len(audio)).astype(np.float32)
    wanted_power = np.mean(audio**2) / 10 ** (snr_db / 10)
    mixed = audio + noise * np.sqrt(wanted_power / np.mean(noise**2))
    return np.asarray(np.clip(mixed, -1, 1), np.float32)

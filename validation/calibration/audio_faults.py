"""Faults of a recording, and changes that are none."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import soxr

from validation.calibration.trusted_clips import Rng, TrustedClip
from validation.domain import SAMPLE_RATE, Seconds, Waveform

MAX_PEAK = 0.999
"""Highest absolute sample of a changed clip, so that a change does not clip it by accident."""
TELEPHONE_BAND_HZ = (300.0, 3400.0)
"""The band of a telephone line: ITU-T G.712."""

# --- Harmless changes -----------------------------------------------------------------------------------------------


def keep(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    return clip


def lower(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Eight decibels quieter."""
    return replace(clip, audio=_fit(clip.audio * 10 ** (-8 / 20)))


def pause(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip:
    """0.3 s of faint noise at both ends."""
    room = 1e-4 * rng.standard_normal((2, int(0.3 * SAMPLE_RATE)))
    return replace(clip, audio=_fit(np.concatenate([room[0], clip.audio, room[1]])))


# --- Something besides the speech -----------------------------------------------------------------------------------


def add_noise(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip:
    """White noise at a signal-to-noise ratio."""
    return replace(clip, audio=_mix(clip.audio, rng.standard_normal(len(clip.audio)), snr_db))


def add_music(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip:
    """Chords of plucked strings, two in a second, at a signal-to-noise ratio."""
    return replace(clip, audio=_mix(clip.audio, _play_chords(len(clip.audio), rng), snr_db))


def overlap(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip | None:
    """Another clip over all of it; of another language, so that the speaker is another one."""
    others = [other.audio for other in clips if other.language != clip.language]
    if not others:
        return None
    other = np.resize(others[rng.integers(len(others))], len(clip.audio))
    return replace(clip, audio=_mix(clip.audio, other, snr_db))


# --- Less than was recorded -----------------------------------------------------------------------------------------


def overdrive(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng, *, scale: float) -> TrustedClip:
    """Amplified until one sample in twenty is clipped, then stored at a share of full scale."""
    clipped = np.clip(clip.audio / max(np.quantile(np.abs(clip.audio), 0.95), 1e-6), -1, 1)
    return replace(clip, audio=(clipped * scale).astype(np.float32))


def telephone(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """The band of a telephone line, at a rate of 8 kHz, as a video's sound track holds a call: resampled to 16 kHz."""
    narrow = soxr.resample(soxr.resample(clip.audio, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / SAMPLE_RATE)
    low, high = TELEPHONE_BAND_HZ
    spectrum[(hz < low) | (hz > high)] = 0
    return replace(clip, audio=_fit(np.fft.irfft(spectrum, len(narrow))))


def silence(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    return replace(clip, audio=np.zeros_like(clip.audio))


def truncate(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng, *, share: float) -> TrustedClip:
    """The last part of the speech is missing; the transcript has it."""
    first, last = _speech_span(clip.audio)
    return replace(clip, audio=clip.audio[: last - int(share * (last - first))])


def shift(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng, *, seconds: Seconds) -> TrustedClip | None:
    """Times shifted: the beginning is missing, and at the end the next sentence of the language has begun."""
    others = [other.audio for other in clips if other.language == clip.language and other.text != clip.text]
    first, last = _speech_span(clip.audio)
    moved = int(seconds * SAMPLE_RATE)
    if not others or last - first < 2 * moved:
        return None
    following = others[rng.integers(len(others))]
    begins, _ = _speech_span(following)
    return replace(clip, audio=_fit(np.concatenate([clip.audio[first + moved :], following[begins : begins + moved]])))


def double_speed(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Played twice as fast, an octave higher."""
    return replace(clip, audio=_fit(soxr.resample(clip.audio, 2 * SAMPLE_RATE, SAMPLE_RATE)))


def _play_chords(samples: int, rng: Rng) -> np.ndarray:
    step = SAMPLE_RATE // 2
    time_s = np.arange(step) / SAMPLE_RATE
    chords = []
    for _ in range(-(-samples // step)):
        root = 110.0 * 2 ** (rng.integers(12) / 12)
        tones = [root * ratio * harmonic for ratio in (1, 5 / 4, 3 / 2, 2) for harmonic in range(1, 6)]
        weights = [1 / harmonic for _ in range(4) for harmonic in range(1, 6)]
        waves = (w * np.sin(2 * np.pi * hz * time_s) for w, hz in zip(weights, tones, strict=True))
        chords.append(sum(waves) * np.exp(-3 * time_s))
    return np.concatenate(chords)[:samples]


def _speech_span(audio: Waveform) -> tuple[int, int]:
    """First and last sample within 40 dB of the peak: where the speech begins and ends."""
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(audio))


def _mix(speech: Waveform, other: np.ndarray, snr_db: float) -> Waveform:
    power = max(float(np.mean(other**2)), 1e-12)
    return _fit(speech + other * float(np.sqrt(np.mean(speech**2) / 10 ** (snr_db / 10) / power)))


def _fit(audio: np.ndarray) -> Waveform:
    """Lower the level if a sample would exceed ``MAX_PEAK``, because clipping is another fault."""
    fitted: Waveform = (audio * min(1.0, MAX_PEAK / max(float(np.abs(audio).max()), 1e-9))).astype(np.float32)
    return fitted

"""Compute signals from the samples of a segment: level, clipping, bandwidth, level at both edges, longest pause."""

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Column, Scalar, Seconds, Waveform

AUDIO_SIGNALS = (
    Column("rms_dbfs", "float", "dBFS", "Root mean square level; digital silence is -120."),
    Column("clipped_fraction", "float", "ratio", "Share of samples at or beyond 0.99 of full scale."),
    Column("flat_fraction", "float", "ratio", "Share of samples in runs of at least 3 within 0.5 % of the peak."),
    Column("bandwidth_hz", "float", "hertz", "Highest frequency within 50 dB of the strongest, in the louder half."),
    Column("edge_start_db", "float", "decibels", "Level of the first 50 ms, relative to the whole segment."),
    Column("edge_end_db", "float", "decibels", "Level of the last 50 ms, relative to the whole segment."),
    Column("pause_s", "float", "seconds", "Longest silence between two sounds: 30 dB below the segment's level."),
)
"""Columns of the signals that ``audio_signals`` computes."""

SILENCE_DBFS = -120.0
"""Lowest level that is reported, in dBFS. Digital silence, whose level is minus infinity, gets this value."""

CLIP_LEVEL = 0.99
"""Absolute value from which a sample counts as clipped; full scale is 1. Resampling makes a clipped peak ring, so that
some of its samples fall below full scale."""

FLAT_LEVEL, FLAT_SAMPLES = 0.995, 3
"""A flat top is a run of at least ``FLAT_SAMPLES`` samples that reach ``FLAT_LEVEL`` of the peak. A sine below 440 Hz
has such runs too, but speech reaches its peak only a few times in a segment."""

EDGE_S: Seconds = 0.05
"""Length of an edge. After a cut through speech, the edge has the level of speech. Most segments begin and end with a
pause of at least 50 ms."""

FRAME = 320
"""Samples per frame of 20 ms, for the spectrum and for pauses."""

BANDWIDTH_FLOOR_DB = -50.0
"""Lowest level, relative to the strongest frequency band, at which a band counts as part of the bandwidth."""

PAUSE_DB = -30.0
"""Level, relative to the whole segment, below which a frame is a pause."""


def audio_signals(audio: Waveform | None) -> dict[str, Scalar]:
    """Compute the signals of a segment's samples; without audio all signals are None."""
    if audio is None:
        return dict.fromkeys(column.name for column in AUDIO_SIGNALS)
    start, end = edge_levels_db(audio)
    return {
        "rms_dbfs": rms_dbfs(audio),
        "clipped_fraction": clipped_fraction(audio),
        "flat_fraction": flat_fraction(audio),
        "bandwidth_hz": bandwidth_hz(audio),
        "edge_start_db": start,
        "edge_end_db": end,
        "pause_s": longest_pause_s(audio),
    }


def rms_dbfs(audio: Waveform) -> float | None:
    """Return the root mean square level in dBFS, at least ``SILENCE_DBFS``; 0 is a full-scale square wave.

    Return None for audio without samples and for audio with samples that are not finite.
    """
    if not len(audio):
        return None
    power = float(np.mean(np.square(audio, dtype=np.float64)))
    if not np.isfinite(power):
        return None
    return max(10 * float(np.log10(power)), SILENCE_DBFS) if power > 0 else SILENCE_DBFS


def clipped_fraction(audio: Waveform) -> float | None:
    """Return the share of samples at or beyond ``CLIP_LEVEL``, in [0, 1]; None without samples."""
    return float(np.mean(np.abs(audio) >= CLIP_LEVEL)) if len(audio) else None


def flat_fraction(audio: Waveform) -> float | None:
    """Return the share of samples in flat tops, in [0, 1]. Flat tops show clipping even if the level was lowered later.

    A flat top is a run of at least ``FLAT_SAMPLES`` samples of one sign within 0.5 % of the segment's own peak. Return
    None without samples, for digital silence and for samples that are not finite.
    """
    peak = float(np.abs(audio).max()) if len(audio) else 0.0
    if not 0 < peak < np.inf:
        return None
    lengths = np.concatenate([_run_lengths(side >= FLAT_LEVEL * peak) for side in (audio, -audio)])
    return float(lengths[lengths >= FLAT_SAMPLES].sum() / len(audio))


def bandwidth_hz(audio: Waveform) -> float | None:
    """Return the highest frequency, in hertz, at which the loud half of a segment has energy.

    The mean spectrum of the louder half of the frames of 20 ms is smoothed over 150 Hz. The result is the highest
    frequency whose power is within ``BANDWIDTH_FLOOR_DB`` of the maximum of this spectrum, and at most half the sample
    rate. Return None for fewer than ten frames, for a level of ``SILENCE_DBFS`` and for samples that are not finite.
    """
    count = len(audio) // FRAME
    level = rms_dbfs(audio)
    if count < 10 or level is None or level <= SILENCE_DBFS:  # noqa: PLR2004 - a fifth of a second has no mean spectrum
        return None
    frames = audio[: count * FRAME].reshape(count, FRAME)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    loud = frames[power >= np.median(power)] * np.hanning(FRAME)
    spectrum = np.convolve(np.mean(np.abs(np.fft.rfft(loud, axis=1)) ** 2, axis=0), np.ones(3) / 3, mode="same")
    above = np.flatnonzero(spectrum >= spectrum.max() * 10 ** (BANDWIDTH_FLOOR_DB / 10))
    return float(above[-1] * SAMPLE_RATE / FRAME)


def edge_levels_db(audio: Waveform) -> tuple[float | None, float | None]:
    """Return the levels of the first and last ``EDGE_S``, in decibels relative to the level of the whole segment.

    A level near 0 or above means that the segment begins or ends within speech. Both levels are None for segments
    that are shorter than four edges, have a level of ``SILENCE_DBFS`` or have samples that are not finite.
    """
    edge, level = int(EDGE_S * SAMPLE_RATE), rms_dbfs(audio)
    if level is None or level <= SILENCE_DBFS or len(audio) < 4 * edge:
        return None, None
    first, last = rms_dbfs(audio[:edge]), rms_dbfs(audio[-edge:])
    return (None if first is None else first - level), (None if last is None else last - level)


def longest_pause_s(audio: Waveform) -> Seconds | None:
    """Return the longest silence between two sounds, in seconds. Silence at the start and the end is not counted.

    A frame of 20 ms is silent if it is more than 30 dB below the segment's level. Return None for audio that is shorter
    than a frame, has a level of ``SILENCE_DBFS`` or has samples that are not finite. Return 0 without a pause.
    """
    count, level = len(audio) // FRAME, rms_dbfs(audio)
    if level is None or level <= SILENCE_DBFS or not count:
        return None
    power = np.mean(np.square(audio[: count * FRAME].reshape(count, FRAME), dtype=np.float64), axis=1)
    sounding = np.flatnonzero(power >= 10 ** ((level + PAUSE_DB) / 10))
    if len(sounding) < 2:  # noqa: PLR2004 - a pause is between two sounds
        return 0.0
    return float((np.diff(sounding).max() - 1) * FRAME / SAMPLE_RATE)


def _run_lengths(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the number of values in each run of true values."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)

"""Signals of the samples: level, clipping, bandwidth, both edges, silence inside."""

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Column, Scalar, Seconds, Waveform

AUDIO_SIGNALS = (
    Column("rms_dbfs", "float", "dBFS", "Root mean square level; digital silence is -120."),
    Column("clipped_fraction", "float", "ratio", "Share of samples at or beyond 0.99 of full scale."),
    Column("flat_fraction", "float", "ratio", "Share of samples in runs of 3 and more within 0.5 % of the own peak."),
    Column("bandwidth_hz", "float", "hertz", "Highest frequency within 50 dB of the strongest, in the louder half."),
    Column("edge_start_db", "float", "decibels", "Level of the first 50 ms, from that of the whole segment."),
    Column("edge_end_db", "float", "decibels", "Level of the last 50 ms, from that of the whole segment."),
    Column("pause_s", "float", "seconds", "Longest silence between two sounds, 30 dB below the segment's level."),
)
"""What ``audio_signals`` computes."""

SILENCE_DBFS = -120.0
"""The lowest level that is reported. Digital silence has no level on a logarithmic scale, so it is given this one."""

CLIP_LEVEL = 0.99
"""Full scale as a share of the range. Resampling rings around a clipped peak and leaves it on both sides."""

FLAT_LEVEL, FLAT_SAMPLES = 0.995, 3
"""A flat top: at least so many samples in succession at this share of the peak or beyond it. A sine below 440 Hz stays
as long within 0.5 % of its peak, but speech touches its peak a few times in a segment only."""

EDGE_S: Seconds = 0.05
"""Length of an edge. A cut through speech leaves its level there; a pause of 50 ms lies at most ends of segments."""

FRAME = 320
"""Samples of a frame of 20 ms, for the spectrum and for pauses."""

BANDWIDTH_FLOOR_DB = -50.0
"""Level, from that of the strongest band, down to which a band counts as part of the bandwidth."""

PAUSE_DB = -30.0
"""Level, from that of the segment, below which a frame is a pause."""


def audio_signals(audio: Waveform | None) -> dict[str, Scalar]:
    """Compute the signals of a segment's samples; all None without audio."""
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
    """Root mean square level in decibels; 0 is a square wave at full scale, and the least is ``SILENCE_DBFS``.

    None for audio without samples and for audio with samples that are not finite.
    """
    if not len(audio):
        return None
    power = float(np.mean(np.square(audio, dtype=np.float64)))
    if not np.isfinite(power):
        return None
    return max(10 * float(np.log10(power)), SILENCE_DBFS) if power > 0 else SILENCE_DBFS


def clipped_fraction(audio: Waveform) -> float | None:
    """Share of samples at or beyond ``CLIP_LEVEL``, in [0, 1]; None without samples."""
    return float(np.mean(np.abs(audio) >= CLIP_LEVEL)) if len(audio) else None


def flat_fraction(audio: Waveform) -> float | None:
    """Share of samples in flat tops, in [0, 1]: clipping at whatever level the file was stored afterwards.

    A flat top is a run of ``FLAT_SAMPLES`` samples of one sign within 0.5 % of the segment's own peak. None without
    samples, and for digital silence.
    """
    peak = float(np.abs(audio).max()) if len(audio) else 0.0
    if not 0 < peak < np.inf:
        return None
    lengths = np.concatenate([_run_lengths(side >= FLAT_LEVEL * peak) for side in (audio, -audio)])
    return float(lengths[lengths >= FLAT_SAMPLES].sum() / len(audio))


def bandwidth_hz(audio: Waveform) -> float | None:
    """Highest frequency, in hertz, at which the segment's loud half has energy; at most half the sample rate.

    The mean spectrum of the louder half of the frames of 20 ms, smoothed over 150 Hz, is compared with its own highest
    value: the highest frequency within ``BANDWIDTH_FLOOR_DB`` of it. None for less than ten frames and for silence.
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
    """Level of the first and of the last ``EDGE_S``, in decibels from the level of the whole segment.

    Near 0 or above: the segment begins or ends within speech. None for silence and for segments below four edges.
    """
    edge, level = int(EDGE_S * SAMPLE_RATE), rms_dbfs(audio)
    if level is None or level <= SILENCE_DBFS or len(audio) < 4 * edge:
        return None, None
    first, last = rms_dbfs(audio[:edge]), rms_dbfs(audio[-edge:])
    return (None if first is None else first - level), (None if last is None else last - level)


def longest_pause_s(audio: Waveform) -> Seconds | None:
    """The longest silence between two sounds, in seconds; the silence at both ends is not counted.

    A frame of 20 ms is silent if it is more than 30 dB below the segment's level. None for digital silence.
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
    """The length of every run of true values."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    return np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1)

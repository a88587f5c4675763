"""What the samples alone tell of a segment."""

import numpy as np

from validation.domain import Waveform

SILENCE_DBFS = -120.0
"""The quietest level that is told. Digital silence has no level on a logarithmic scale; it is this one."""

CLIP_LEVEL = 0.99
"""Full scale as a share of the range. Resampling rings around a clipped peak and leaves it on both sides."""


def rms_dbfs(audio: Waveform) -> float | None:
    """Root mean square level in decibels, 0 for a square wave at full scale, never below ``SILENCE_DBFS``.

    None for audio that has no level: no samples, or samples that are not finite.
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

"""Audio files to waveforms at the rate that all models listen at, or the reason why a segment has none."""

from collections.abc import Iterable

import numpy as np
import soxr

from validation.corpus.containers import find_truncation
from validation.corpus.decoders import DECODER_ERRORS, Block, read_blocks
from validation.domain import MIN_SEGMENT_S, SAMPLE_RATE, Fault, Seconds, Waveform
from validation.errors import Permanent

_OVERHANG_S: Seconds = 0.25
"""How far a stretch may reach past the end of its file: indexes round up, and encoders drop their padding."""


class Undecodable(Permanent):
    """No model can be asked about this audio."""

    def __init__(self, kind: str, message: str) -> None:
        self.fault = Fault(kind, message)
        super().__init__(f"{kind}: {message}")


def decode_audio(payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
    """Decode an audio file of any accepted kind: all of it, mixed to mono, resampled by soxr (HQ).

    Args:
        payload: the file's bytes.
        limit_s: how much audio it may hold.

    Returns:
        (n,) float32 in [-1, 1] at ``SAMPLE_RATE``; resampling overshoots loud edges, and what overshoots is clipped.

    Raises:
        Undecodable: ``undecodable`` (damaged, cut off, or of no known kind), ``too_short`` (under ``MIN_SEGMENT_S``),
            ``too_long`` (over ``limit_s``; the rest is not decoded), ``not_finite`` (samples that are NaN or infinite).
    """
    if not payload:
        raise Undecodable("too_short", "the file holds 0 bytes")
    if truncation := find_truncation(payload):
        raise Undecodable("undecodable", truncation)
    try:
        waveform = _resample(read_blocks(payload), limit_s)
    except DECODER_ERRORS as error:
        raise Undecodable("undecodable", str(error).partition("\n")[0]) from None
    if not np.isfinite(waveform).all():
        raise Undecodable("not_finite", "samples are NaN or infinite")
    return _require_long(np.clip(waveform, -1.0, 1.0, out=waveform))


def slice_audio(waveform: Waveform, start_s: Seconds, end_s: Seconds, limit_s: Seconds = 3600.0) -> Waveform:
    """Copy the stretch from ``start_s`` to ``end_s``.

    Raises:
        Undecodable: ``bad_times`` (it lies outside the audio), ``too_short``, ``too_long`` (over ``limit_s``).
    """
    total_s = len(waveform) / SAMPLE_RATE
    if start_s >= total_s or end_s > total_s + _OVERHANG_S:
        raise Undecodable("bad_times", f"{start_s:.2f} s to {end_s:.2f} s lies outside {total_s:.2f} s of audio")
    if end_s - start_s > limit_s:
        raise Undecodable("too_long", f"the segment lasts more than {limit_s:.0f} s")
    return _require_long(waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)].copy())


def _resample(blocks: Iterable[Block], limit_s: Seconds) -> Waveform:
    resampler, pieces, frames = None, [np.empty(0, np.float32)], 0
    for sample_rate, samples in blocks:
        frames += len(samples)
        if frames > limit_s * sample_rate:
            raise Undecodable("too_long", f"the file holds more than {limit_s:.0f} s")
        if sample_rate == SAMPLE_RATE:
            pieces.append(samples)
            continue
        resampler = resampler or soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        pieces.append(resampler.resample_chunk(samples))
    if resampler:
        pieces.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    return np.concatenate(pieces)


def _require_long(waveform: Waveform) -> Waveform:
    if len(waveform) < MIN_SEGMENT_S * SAMPLE_RATE:
        raise Undecodable("too_short", f"it lasts {len(waveform) / SAMPLE_RATE:.3f} s, less than {MIN_SEGMENT_S} s")
    return waveform

"""The types that the readers of audio files share: a file with its decoder and declared length, and decoded blocks."""

from typing import Literal, NamedTuple

import numpy as np

from validation.domain import Seconds

BLOCK_SAMPLES = 1 << 20
"""Samples per block over all channels: half a minute of mono audio at 32 kHz. Most segments fit into one block, and the
memory for a block is bounded."""
MAX_MISSING_S: Seconds = 0.25
"""Maximum difference by which the decoded length of a complete file may be below its declared length. Encoders add up
to 0.15 s of padding and priming samples, which the declared length may include."""
PLACEHOLDER_BYTES = 0x7F000000
"""Minimum declared size that counts as a placeholder if the file is smaller. No member of a tar may be so large.
Placeholders in use are 0x7FFFF000 (SoX), 0xFFFFFFFF (FFmpeg) and 0x80000000 (others)."""
MAX_STRAY_S: Seconds = 0.25
"""Maximum length of unknown bytes after the samples, as the time that these bytes would play as samples. Some writers
append a tag of an unknown format."""


class DamagedAudio(ValueError):
    """Bytes of the file are missing or damaged. The message names the contradiction that shows the damage."""


class AudioFile(NamedTuple):
    """An audio file whose container was checked, so that a decoder can read the file."""

    payload: bytes
    """The bytes to decode: the file without the tags before its container. In WAV and AIFF, the actual length replaces
    a placeholder. Of MPEG audio, a first frame that counts too few frames is left out."""
    decoder: Literal["libsndfile", "ffmpeg"]
    """The library that decodes the file; if libsndfile cannot open the file, FFmpeg decodes it. libsndfile decodes WAV,
    Wave64, AIFF, FLAC that declares its length, and Ogg except Opus and chained streams. libsndfile also reads MP3 and
    Opus, but it fills a truncated MP3 with silence without an error, and for Opus at 48 kHz it takes nearly twice the
    time of FFmpeg."""
    declares_length: bool
    """Whether the length that the decoder reports is declared in the file, and not estimated from the bit rate."""
    declared_s: Seconds | None = None
    """A further length that the decoded audio is compared with, as ``check_complete`` does: that in the movie header of
    an MP4 file, or that of all frames of MPEG audio without a right count. None for other files or if unknown."""


class Block(NamedTuple):
    """Consecutive decoded samples of a file."""

    sample_rate: int
    """Hz."""
    channels: np.ndarray
    """(channels, n) samples, with full scale at -1 and 1. Samples of a file of floats may exceed full scale."""


def check_complete(decoded_s: Seconds, declared_s: Seconds | None) -> None:
    """Raise ValueError if the decoded length is more than ``MAX_MISSING_S`` below the declared length.

    If ``declared_s`` is None, nothing is checked.
    """
    if declared_s is not None and decoded_s < declared_s - MAX_MISSING_S:
        raise ValueError(f"it ends after {decoded_s:.2f} of {declared_s:.2f} s")

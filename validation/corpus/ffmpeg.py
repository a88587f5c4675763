"""Decode audio files with FFmpeg."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from validation.corpus.audio_file import BLOCK_SAMPLES, MAX_MISSING_S, AudioFile, Block, check_complete
from validation.domain import Seconds

_FFMPEG_FORMATS = "aac,amr,asf,au,caf,flac,matroska,mov,mp3,ogg,wav"
"""Container formats that FFmpeg may open. Without this list FFmpeg also reads playlists, which can make it open other
files and network addresses."""


def read_with_ffmpeg(file: AudioFile) -> Iterator[Block]:
    """Decode the first audio stream of a file, and yield blocks at the file's own sample rate.

    Raises:
        ValueError: the file cannot be opened, is damaged, ends before its declared length, or has a gap.
    """
    try:
        yield from _decode_blocks(file)
    except av.FFmpegError as error:
        raise ValueError(str(error)) from None


def _decode_blocks(file: AudioFile) -> Iterator[Block]:
    """Decode as ``read_with_ffmpeg``, which converts the errors of FFmpeg."""
    with av.open(io.BytesIO(file.payload), "r", options={"format_whitelist": _FFMPEG_FORMATS}) as container:
        if not container.streams.audio:
            raise ValueError("it holds no sound")
        stream = container.streams.audio[0]
        has_times = container.format.name.startswith(("matroska", "mov"))
        decoded_s = 0.0
        for frame in _gather_frames(container, stream, has_times=has_times):
            decoded_s += frame.samples / frame.sample_rate
            yield Block(frame.sample_rate, _split_channels(frame))
        check_complete(decoded_s, _find_declared_s(container, stream) if file.declares_length else None)
        check_complete(decoded_s, file.declared_s)


def _gather_frames(container: InputContainer, stream: AudioStream, *, has_times: bool) -> Iterator[av.AudioFrame]:
    """Join FFmpeg's frames of about 20 ms into long frames, because resampling short frames takes twice the time.

    Raises:
        ValueError: with ``has_times``, the timestamps of two consecutive frames show a gap.
    """
    fifo = av.AudioFifo()
    late_s: Seconds | None = None
    decoded_s = 0.0
    for frame in container.decode(stream):
        if has_times and frame.time is not None:
            late_s = frame.time - decoded_s if late_s is None else late_s
            _check_gap(frame.time - decoded_s - late_s, decoded_s)
        decoded_s += frame.samples / frame.sample_rate
        frame.pts = None  # AudioFifo rejects frames whose timestamps have a gap
        fifo.write(frame)
        if fifo.samples * len(frame.layout.channels) >= BLOCK_SAMPLES and (block := fifo.read()):
            yield block
    if block := fifo.read():
        yield block


def _split_channels(frame: av.AudioFrame) -> np.ndarray:
    """Convert a frame of any sample format to samples of shape (channels, n), with full scale at -1 and 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return samples
    bits = 8 * samples.dtype.itemsize
    middle = 1 << (bits - 1) if samples.dtype.kind == "u" else 0
    return (samples.astype(np.float64) - middle) / (1 << (bits - 1))


def _find_declared_s(container: InputContainer, stream: AudioStream) -> Seconds | None:
    """Return the length that the container declares for the audio.

    The result is None for formats that declare none and for Matroska with video, and 0 if the file declares none.
    """
    if container.format.name.startswith(("asf", "mov", "mp3")):
        return float((stream.duration or 0) * (stream.time_base or Fraction(0)))
    if container.format.name.startswith("matroska") and not container.streams.video:
        return (container.duration or 0) / av.time_base
    return None


def _check_gap(gap_s: Seconds, decoded_s: Seconds) -> None:
    """Check that a frame starts where the audio decoded before the frame ends.

    A live recording declares no length, so a jump of its timestamps is the only sign of lost audio.

    Args:
        gap_s: the frame's timestamp less the end of the audio decoded before the frame.
        decoded_s: the length of that audio.

    Raises:
        ValueError: the gap exceeds ``MAX_MISSING_S``.
    """
    if abs(gap_s) > MAX_MISSING_S:
        raise ValueError(f"its time jumps by {gap_s:.2f} s after {decoded_s:.2f} s of audio")

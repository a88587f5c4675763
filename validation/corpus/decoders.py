"""The two decoders behind one promise: mono float32 blocks at the file's own rate, all of the file or an error."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream
from av.container import InputContainer

from validation.corpus.containers import has_mp3_length, suits_libsndfile
from validation.domain import Seconds, Waveform

_BLOCK_SAMPLES = 1 << 20
"""Over all channels: half a minute at 32 kHz, so that most segments are one block and no file takes the memory."""
_FFMPEG_FORMATS = "aac,flac,matroska,mov,mp3,ogg,wav"
"""Containers of sound alone. Left to choose, FFmpeg also takes lists that make it open other files, and ports."""
_SLACK_S: Seconds = 0.25
"""How much shorter than declared a whole file may decode: encoders pad and prime by up to 0.15 s."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile declares this many or more where the file declares none."""

DECODER_ERRORS = (soundfile.SoundFileError, av.FFmpegError, ValueError)


class Block(NamedTuple):
    """A stretch of a file, mixed down to one channel."""

    sample_rate: int
    """Hz."""
    samples: Waveform


def read_blocks(payload: bytes) -> Iterator[Block]:
    """Decode an audio file of any accepted kind, front to back.

    Raises:
        DECODER_ERRORS: it cannot be opened, breaks off, or ends before its declared length.
    """
    if suits_libsndfile(payload):
        try:
            file = soundfile.SoundFile(io.BytesIO(payload))
        except soundfile.LibsndfileError:
            return _read_with_ffmpeg(payload)  # such as Speex in Ogg
        return _read_with_libsndfile(file)
    return _read_with_ffmpeg(payload)


def _read_with_libsndfile(file: soundfile.SoundFile) -> Iterator[Block]:
    with file:
        frames = 0
        while len(channels := file.read(_BLOCK_SAMPLES // file.channels, dtype="float32", always_2d=True)):
            frames += len(channels)
            yield Block(file.samplerate, _mix_down(channels.T))
        if file.frames < _UNKNOWN_FRAMES:
            _require_whole(frames / file.samplerate, file.frames / file.samplerate)


def _read_with_ffmpeg(payload: bytes) -> Iterator[Block]:
    with av.open(io.BytesIO(payload), "r", options={"format_whitelist": _FFMPEG_FORMATS}) as container:
        if not container.streams.audio:
            raise ValueError("it holds no sound")
        stream = container.streams.audio[0]
        decoded_s = 0.0
        for frame in _gather_frames(container, stream):
            decoded_s += frame.samples / frame.sample_rate
            yield Block(frame.sample_rate, _mix_down(_split_channels(frame)))
        _require_whole(decoded_s, _find_declared_s(container, stream, payload))


def _gather_frames(container: InputContainer, stream: AudioStream) -> Iterator[av.AudioFrame]:
    """Join FFmpeg's frames of some 20 ms into long ones: resampling each alone would take twice the time."""
    fifo = av.AudioFifo()
    for frame in container.decode(stream):
        frame.pts = None  # the queue refuses gaps in time; the length is checked at the end instead
        fifo.write(frame)
        if fifo.samples * len(frame.layout.channels) >= _BLOCK_SAMPLES and (block := fifo.read()):
            yield block
    if block := fifo.read():
        yield block


def _split_channels(frame: av.AudioFrame) -> np.ndarray:
    """Return (channels, n) samples in [-1, 1], whatever the frame's sample format."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return samples
    bits = 8 * samples.dtype.itemsize
    middle = 1 << (bits - 1) if samples.dtype.kind == "u" else 0
    return (samples.astype(np.float64) - middle) / (1 << (bits - 1))


def _mix_down(channels: np.ndarray) -> Waveform:
    mono: Waveform = channels.mean(axis=0, dtype=np.float32)
    return mono


def _find_declared_s(container: InputContainer, stream: AudioStream, payload: bytes) -> Seconds | None:
    """Return the length that the file itself declares; None where FFmpeg could only guess it from the bit rate."""
    if container.format.name.startswith("mov") or (container.format.name == "mp3" and has_mp3_length(payload)):
        return float((stream.duration or 0) * (stream.time_base or Fraction(0)))
    if container.format.name.startswith("matroska") and len(container.streams) == 1:
        return (container.duration or 0) / av.time_base
    return None


def _require_whole(decoded_s: Seconds, declared_s: Seconds | None) -> None:
    if declared_s is not None and decoded_s < declared_s - _SLACK_S:
        raise ValueError(f"it ends after {decoded_s:.2f} of {declared_s:.2f} s")

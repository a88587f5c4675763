"""Decode audio files to mono waveforms at ``SAMPLE_RATE``, whole, or return the reason why a file has none."""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import soundfile
import soxr
from av.audio.stream import AudioStream
from av.container import InputContainer

from validation.corpus.audio_formats import find_truncation, has_mp3_length, suits_libsndfile
from validation.domain import MIN_SEGMENT_S, SAMPLE_RATE, Fault, Seconds, Waveform
from validation.errors import Permanent

_BLOCK_SAMPLES = 1 << 20
"""Over all channels: half a minute at 32 kHz, so that most segments are one block and memory stays bounded."""
_FFMPEG_FORMATS = "aac,flac,matroska,mov,mp3,ogg,wav"
"""Containers of sound alone. Without this list FFmpeg reads playlists too, which make it open other files and ports."""
_MAX_MISSING_S: Seconds = 0.25
"""How much shorter than declared a whole file may decode: encoders pad and prime by up to 0.15 s."""
_UNKNOWN_FRAMES = 1 << 62
"""libsndfile declares this many or more where the file declares none."""
_MAX_OVERHANG_S: Seconds = 0.25
"""How far a span may reach past the end of its file: indexes round up, and encoders drop their padding."""
_DECODER_ERRORS = (soundfile.SoundFileError, av.FFmpegError, ValueError)


class Undecodable(Permanent):
    """An audio file or a span of one gives no waveform that a model can be asked about."""

    def __init__(self, kind: str, message: str) -> None:
        self.fault = Fault(kind, message)
        super().__init__(f"{kind}: {message}")


class Block(NamedTuple):
    """A part of a file, mixed down to one channel."""

    sample_rate: int
    """Hz."""
    samples: Waveform


def decode_audio(payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
    """Decode an audio file of any accepted format: all of it, mixed to mono, resampled by soxr (HQ).

    Args:
        payload: the file's bytes.
        limit_s: how much audio the file may hold.

    Returns:
        (n,) float32 in [-1, 1] at ``SAMPLE_RATE``; resampling overshoots loud edges, and the overshoot is clipped.

    Raises:
        Undecodable: ``undecodable`` (damaged, cut off, or of no known format), ``too_short`` (under
            ``MIN_SEGMENT_S``), ``too_long`` (over ``limit_s``; the rest is not decoded), ``not_finite`` (samples that
            are NaN or infinite).
    """
    if not payload:
        raise Undecodable("too_short", "the file holds 0 bytes")
    if truncation := find_truncation(payload):
        raise Undecodable("undecodable", truncation)
    try:
        waveform = _resample(_read_blocks(payload), limit_s)
    except _DECODER_ERRORS as error:
        raise Undecodable("undecodable", str(error).partition("\n")[0]) from None
    if not np.isfinite(waveform).all():
        raise Undecodable("not_finite", "samples are NaN or infinite")
    return _check_min_length(np.clip(waveform, -1.0, 1.0, out=waveform))


def slice_audio(waveform: Waveform, start_s: Seconds, end_s: Seconds, limit_s: Seconds = 3600.0) -> Waveform:
    """Copy the span from ``start_s`` to ``end_s``.

    Raises:
        Undecodable: ``bad_times`` (it lies outside the audio), ``too_short``, ``too_long`` (over ``limit_s``).
    """
    total_s = len(waveform) / SAMPLE_RATE
    if start_s >= total_s or end_s > total_s + _MAX_OVERHANG_S:
        raise Undecodable("bad_times", f"{start_s:.2f} s to {end_s:.2f} s lies outside {total_s:.2f} s of audio")
    if end_s - start_s > limit_s:
        raise Undecodable("too_long", f"the segment lasts more than {limit_s:.0f} s")
    return _check_min_length(waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)].copy())


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


def _check_min_length(waveform: Waveform) -> Waveform:
    if len(waveform) < MIN_SEGMENT_S * SAMPLE_RATE:
        raise Undecodable("too_short", f"it lasts {len(waveform) / SAMPLE_RATE:.3f} s, less than {MIN_SEGMENT_S} s")
    return waveform


def _read_blocks(payload: bytes) -> Iterator[Block]:
    """Decode a file of any accepted format, front to back, to mono blocks at the file's own rate.

    Raises:
        _DECODER_ERRORS: the file cannot be opened, breaks off, or ends before its declared length.
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
            _check_whole(frames / file.samplerate, file.frames / file.samplerate)


def _read_with_ffmpeg(payload: bytes) -> Iterator[Block]:
    with av.open(io.BytesIO(payload), "r", options={"format_whitelist": _FFMPEG_FORMATS}) as container:
        if not container.streams.audio:
            raise ValueError("it holds no sound")
        stream = container.streams.audio[0]
        decoded_s = 0.0
        for frame in _gather_frames(container, stream):
            decoded_s += frame.samples / frame.sample_rate
            yield Block(frame.sample_rate, _mix_down(_split_channels(frame)))
        _check_whole(decoded_s, _find_declared_s(container, stream, payload))


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


def _check_whole(decoded_s: Seconds, declared_s: Seconds | None) -> None:
    if declared_s is not None and decoded_s < declared_s - _MAX_MISSING_S:
        raise ValueError(f"it ends after {decoded_s:.2f} of {declared_s:.2f} s")

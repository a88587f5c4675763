"""Decode audio files to mono waveforms at ``SAMPLE_RATE``.

A file is decoded completely, or ``AudioDecodeError`` is raised.
"""

import io
from collections.abc import Iterable, Iterator

import numpy as np
import soundfile
import soxr

from validation.corpus.audio_file import BLOCK_SAMPLES, AudioFile, Block, check_complete
from validation.corpus.audio_formats import read_audio_file
from validation.domain import MIN_SEGMENT_S, SAMPLE_RATE, Fault, Seconds, Waveform
from validation.errors import Permanent
from validation.file_formats import SNIFFED_BYTES, name_other_than_audio

_UNKNOWN_FRAMES = 1 << 62
"""libsndfile reports this number of frames or more if the file does not declare its length."""
_MAX_OVERHANG_S: Seconds = 0.25
"""Maximum time by which a span may end after the end of its file. Indexes round times up, and encoders drop padding."""
_RATES = 1000, 768_000
"""Minimum and maximum sample rate in Hz. Other rates are no recordings, and a false low rate can turn a few bytes into
hours of resampled audio, which take gigabytes of memory."""
_MAX_CHANNELS = 64
_MIN_MIX_SHARE = 0.1
"""Minimum energy of a mix, relative to the energy that the loudest channel alone contributes to it. Below, the channels
cancel each other: they have opposite phase, as from a wrongly wired microphone. A mix of uncorrelated channels has more
energy than the contribution of the loudest channel."""
_DECODER_ERRORS = (soundfile.SoundFileError, ValueError)


class AudioDecodeError(Permanent):
    """An audio file, or a span of an audio file, cannot be decoded to a waveform that models can score."""

    def __init__(self, kind: str, message: str) -> None:
        self.fault = Fault(kind, message)
        super().__init__(f"{kind}: {message}")


def decode_audio(payload: bytes, limit_s: Seconds = 3600.0) -> Waveform:
    """Decode a whole audio file of any accepted format, mix it to mono, and resample it with soxr (quality HQ).

    Args:
        payload: the file's bytes.
        limit_s: maximum length of the audio in the file.

    Returns:
        (n,) float32 in [-1, 1] at ``SAMPLE_RATE``; resampling overshoots loud edges, and the overshoot is clipped.

    Raises:
        AudioDecodeError: ``undecodable`` (damaged, cut off, of no known format, or with a sample rate or number of
            channels out of range), ``too_short`` (under ``MIN_SEGMENT_S``), ``too_long`` (over ``limit_s``; the rest is
            not decoded), ``not_finite`` (samples that are NaN or infinite).
    """
    if not payload:
        raise AudioDecodeError("too_short", "the file holds 0 bytes")
    try:
        waveform = _decode(read_audio_file(payload), limit_s)
    except _DECODER_ERRORS as error:
        name = name_other_than_audio(payload[:SNIFFED_BYTES])
        message = f"it is {name}, not audio" if name else str(error).partition("\n")[0]
        raise AudioDecodeError("undecodable", message) from None
    return _clip(_check_min_length(waveform))


def slice_audio(waveform: Waveform, start_s: Seconds, end_s: Seconds, limit_s: Seconds = 3600.0) -> Waveform:
    """Return a copy of the samples from ``start_s`` to ``end_s``, or to the end of the audio if that comes first.

    Raises:
        AudioDecodeError: ``bad_times`` (the span does not start before the end of the audio, or ends more than
            ``_MAX_OVERHANG_S`` after it), ``too_long`` (over ``limit_s``), ``too_short`` (under ``MIN_SEGMENT_S``).
    """
    total_s = len(waveform) / SAMPLE_RATE
    if start_s >= total_s or end_s > total_s + _MAX_OVERHANG_S:
        raise AudioDecodeError("bad_times", f"{start_s:.2f} s to {end_s:.2f} s lies outside {total_s:.2f} s of audio")
    if end_s - start_s > limit_s:
        raise AudioDecodeError("too_long", f"the segment lasts more than {limit_s:.0f} s")
    return _check_min_length(waveform[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)].copy())


class _Mixer:
    """A mixer of channels to mono by their mean, which measures whether the channels cancel each other.

    Args:
        channel: the index of the only channel to use, or of the last channel in blocks that have fewer; None to mix all
            channels.
    """

    def __init__(self, channel: int | None = None) -> None:
        self._channel, self._mix_energy, self._channel_energy = channel, 0.0, np.zeros(1)

    def mix(self, channels: np.ndarray) -> Waveform:
        """Mix samples of shape (channels, n) to mono float32 samples of shape (n,)."""
        if self._channel is not None:
            one: Waveform = np.ascontiguousarray(channels[min(self._channel, len(channels) - 1)], np.float32)
            return one
        if len(channels) == 1:
            return np.asarray(channels[0], np.float32)
        with np.errstate(all="ignore"):  # `decode_audio` rejects samples that are not finite
            mono: Waveform = np.asarray(channels.mean(axis=0, dtype=np.float32))
            energy = np.square(channels, dtype=np.float64).sum(axis=1)
            self._mix_energy += float(np.square(mono, dtype=np.float64).sum())
            self._channel_energy = _add_padded(self._channel_energy, energy)
        return mono

    def find_channel(self) -> int | None:
        """Return the index of the loudest channel if the channels cancel each other; None if they do not.

        Channels cancel each other if the energy of the mix is below ``_MIN_MIX_SHARE`` of the energy that the loudest
        channel alone would contribute to the mix.
        """
        loudest = int(self._channel_energy.argmax())
        share = self._channel_energy[loudest] / len(self._channel_energy) ** 2
        return loudest if self._mix_energy < _MIN_MIX_SHARE * share else None


def _add_padded(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Add two arrays of different lengths; missing items count as 0."""
    total = np.zeros(max(len(first), len(second)))
    total[: len(first)] += first
    total[: len(second)] += second
    return total


def _decode(file: AudioFile, limit_s: Seconds) -> Waveform:
    """Decode a file to the mean of its channels, or to the loudest channel if the channels cancel each other."""
    mixer = _Mixer()
    waveform = _resample(_read_blocks(file), mixer, limit_s)
    channel = mixer.find_channel()
    return waveform if channel is None else _resample(_read_blocks(file), _Mixer(channel), limit_s)


def _resample(blocks: Iterable[Block], mixer: _Mixer, limit_s: Seconds) -> Waveform:
    """Mix blocks to mono and resample them; raise ``AudioDecodeError`` for too much audio or a wrong header."""
    pieces: list[Waveform] = []
    resampler, frames = None, 0
    for sample_rate, channels in blocks:
        if not _RATES[0] <= sample_rate <= _RATES[1] or len(channels) > _MAX_CHANNELS:
            raise AudioDecodeError("undecodable", f"its header says {sample_rate} Hz and {len(channels)} channels")
        samples = mixer.mix(channels)
        frames += len(samples)
        if frames > limit_s * sample_rate:
            raise AudioDecodeError("too_long", f"the file holds more than {limit_s:.0f} s")
        if sample_rate == SAMPLE_RATE:
            pieces.append(samples)
            continue
        resampler = resampler or soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
        pieces.append(resampler.resample_chunk(samples))
    if resampler:
        pieces.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.float32), *pieces])


def _clip(waveform: Waveform) -> Waveform:
    """Clip samples to [-1, 1] in place. Raise ``AudioDecodeError`` if a sample is NaN or infinite."""
    low, high = waveform.min(), waveform.max()  # either is NaN if a sample is
    if not np.isfinite([low, high]).all():
        raise AudioDecodeError("not_finite", "samples are NaN or infinite")
    return waveform if low >= -1.0 and high <= 1.0 else np.clip(waveform, -1.0, 1.0, out=waveform)


def _check_min_length(waveform: Waveform) -> Waveform:
    """Return the waveform; raise ``AudioDecodeError`` if it is shorter than ``MIN_SEGMENT_S``."""
    if len(waveform) < MIN_SEGMENT_S * SAMPLE_RATE:
        raise AudioDecodeError(
            "too_short", f"it lasts {len(waveform) / SAMPLE_RATE:.3f} s, less than {MIN_SEGMENT_S} s"
        )
    return waveform


def _read_blocks(file: AudioFile) -> Iterator[Block]:
    """Decode a file of any accepted format from start to end, and yield blocks at the file's own sample rate.

    Raises:
        _DECODER_ERRORS: the file cannot be opened, is cut off, or ends before its declared length.
    """
    if file.decoder == "libsndfile":
        try:
            opened = soundfile.SoundFile(io.BytesIO(file.payload))
        except soundfile.LibsndfileError:
            return _read_with_ffmpeg(file)  # a codec that libsndfile lacks, such as Speex in Ogg
        return _read_with_libsndfile(opened)
    return _read_with_ffmpeg(file)


def _read_with_ffmpeg(file: AudioFile) -> Iterator[Block]:
    """Decode a file with FFmpeg, which is imported for the first such file: a corpus of FLAC never needs it."""
    from validation.corpus.ffmpeg import read_with_ffmpeg  # noqa: PLC0415 - takes a tenth of the start of a flow process

    return read_with_ffmpeg(file)


def _read_with_libsndfile(file: soundfile.SoundFile) -> Iterator[Block]:
    with file:
        frames = 0
        while frames < file.frames:  # each read also seeks, so there is none at the end
            samples = file.read(BLOCK_SAMPLES // file.channels, dtype="float32", always_2d=True)
            if not len(samples):
                break
            frames += len(samples)
            yield Block(file.samplerate, samples.T)
        if file.frames < _UNKNOWN_FRAMES:
            check_complete(frames / file.samplerate, file.frames / file.samplerate)

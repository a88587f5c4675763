"""One clip of speech in every accepted encoding."""

import numpy as np
import pytest
import soxr

from tests.support.corpus_samples import encode, encode_with_ffmpeg, read_speech
from validation.corpus.audio import AudioDecodeError, decode_audio
from validation.domain import SAMPLE_RATE, Fault

RATE_48K = 48_000

SPEECH = read_speech()


def resample(speech: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(speech, SAMPLE_RATE, rate)


ENCODED = {
    "flac": encode(SPEECH),
    "flac 48 kHz stereo": encode(np.stack([resample(SPEECH, RATE_48K)] * 2, axis=1), rate=RATE_48K),
    "wav": encode(SPEECH, "WAV"),
    "wav 8 kHz": encode(resample(SPEECH, 8000), "WAV", rate=8000),
    "ogg vorbis": encode(SPEECH, "OGG", "VORBIS"),
    "ogg opus": encode(SPEECH, "OGG", "OPUS"),
    "mp3": encode(SPEECH, "MP3"),
    "mp3 48 kHz": encode(resample(SPEECH, RATE_48K), "MP3", rate=RATE_48K),
    "m4a": encode_with_ffmpeg(SPEECH, "ipod", "aac"),
    "m4a 48 kHz": encode_with_ffmpeg(SPEECH, "ipod", "aac", RATE_48K),
    "aac": encode_with_ffmpeg(SPEECH, "adts", "aac"),
    "webm opus": encode_with_ffmpeg(SPEECH, "webm", "libopus", RATE_48K),
}


DECLARING_LENGTH = [kind for kind in ENCODED if kind != "aac"]


def fault_of(payload: bytes, **limits: float) -> Fault:
    with pytest.raises(AudioDecodeError) as caught:
        decode_audio(payload, **limits)
    return caught.value.fault


def similarity(decoded: np.ndarray, spoken: np.ndarray) -> float:
    """Correlate two recordings at the shift, up to 0.2 s, that suits them best: encoders delay what they encode."""
    size = 1 << (len(decoded) + len(spoken)).bit_length()
    products = np.fft.irfft(np.fft.rfft(decoded, size) * np.fft.rfft(spoken, size).conj())
    shifts = np.r_[products[:3200], products[-3200:]]
    return float(shifts.max() / (np.linalg.norm(decoded) * np.linalg.norm(spoken)))

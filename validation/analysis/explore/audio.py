"""Read the audio of a segment from the source store, and compute its WAV file, waveform and spectrogram."""

from io import BytesIO
from threading import Lock

import numpy as np
import numpy.typing as npt
import soundfile

from validation.corpus.fetch import fetch_video
from validation.domain import SAMPLE_RATE, Fault, Seconds, Video, Waveform
from validation.errors import FleetError
from validation.settings import Settings
from validation.storage.store import open_store

COLUMNS = 900
"""Maximum number of points of a waveform and of columns of a spectrogram."""
_WINDOW = 512
"""Number of samples in the window of a spectrogram."""
_FLOOR_DB = -90.0
"""Lowest level of a spectrogram, in dB."""


class SourceAudio:
    """Reader of segments from the tars of the source store. It caches the segments of the last video in memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._video_id: str | None = None
        self._segments: dict[str, npt.NDArray[np.int16] | Fault] = {}

    def read(self, video_id: str, segment: str) -> Waveform | str:
        """Return the samples of a segment, or one sentence that says why they cannot be read."""
        with self._lock:
            if self._video_id != video_id:
                try:
                    self._segments = self._fetch(video_id)
                except FleetError as error:
                    return f"The audio cannot be read: {error}"
                self._video_id = video_id
            found = self._segments.get(segment)
        if found is None:
            return "The tar in the source store no longer holds this segment."
        return (
            f"The audio cannot be decoded: {found}"
            if isinstance(found, Fault)
            else np.asarray(found, np.float32) / np.float32(32768)
        )

    def _fetch(self, video_id: str) -> dict[str, npt.NDArray[np.int16] | Fault]:
        store = open_store(self._settings.source_url, self._settings)
        decoded = fetch_video(store, self._settings.source_key.format(video_id=video_id), Video(video_id, None, None))
        return {
            each.segment.name: each.audio
            if isinstance(each.audio, Fault)
            else np.clip(np.rint(each.audio * 32768), -32768, 32767).astype(np.int16)
            for each in decoded.segments
        }


def encode_wav(samples: Waveform) -> bytes:
    wav = BytesIO()
    soundfile.write(wav, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return wav.getvalue()


def compute_envelope(samples: Waveform) -> tuple[list[Seconds], list[float], list[float]]:
    """Cut the samples into at most ``COLUMNS`` equal blocks. Return start in seconds, minimum and maximum per block."""
    size = max(1, -(-len(samples) // COLUMNS))
    padded = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
    times = np.arange(len(padded)) * size / SAMPLE_RATE
    return times.round(4).tolist(), padded.min(1).round(4).tolist(), padded.max(1).round(4).tolist()


def measure_spectrogram(samples: Waveform) -> tuple[list[Seconds], list[float], list[list[float]]]:
    """Compute a spectrogram with a Hann window.

    Returns:
        Times in seconds; frequencies in Hz; and per frequency the level in dB at each time, at least ``_FLOOR_DB``.
    """
    hop = max(_WINDOW // 4, -(-len(samples) // COLUMNS))
    padded = np.pad(samples, (_WINDOW // 2, _WINDOW))
    starts = np.arange(0, max(len(samples), 1), hop)
    frames = padded[starts[:, None] + np.arange(_WINDOW)] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)[:, ::2]) ** 2 / (_WINDOW / 2) ** 2
    levels = np.maximum(10 * np.log10(power + 1e-12), _FLOOR_DB)
    frequencies = np.arange(power.shape[1]) * 2 * SAMPLE_RATE / _WINDOW
    return (starts / SAMPLE_RATE).round(4).tolist(), frequencies.tolist(), levels.T.round(1).tolist()

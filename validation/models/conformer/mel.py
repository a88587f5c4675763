"""Features of IndicConformer: waveforms to normalised log-mel features, as its ``preprocessor.ts`` computes them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import SAMPLE_RATE
from validation.models.import_shims import allow_torchaudio

HOP_SAMPLES = 160
MELS = 80
MIN_SAMPLES = 400
"""One analysis window. Reflection needs 257 samples and the deviation over frames two frames, so this is enough."""

_FFT = 512
_WINDOW_SAMPLES = 400
_PREEMPHASIS = 0.97
_LOG_GUARD = 2.0**-24
_DEVIATION_FLOOR = 1e-5
_REFLECTED = _FFT // 2


def count_mel_frames(lengths: Tensor) -> Tensor:
    """Count the feature frames of audio: one per hop, the first and the last centred on its ends."""
    return lengths // HOP_SAMPLES + 1


class LogMel:
    """Log-mel features of a batch, each item's as if it were alone.

    Pre-emphasis 0.97; reflection by half a window at the item's own ends; |STFT|^2 with 512 points, a symmetric Hann
    window of 400 and a hop of 160; 80 Slaney mels up to 8 kHz; ln(x + 2^-24); each mel to zero mean and unit deviation
    (n - 1) over the item's own frames. No dither. NeMo's ``AudioToMelSpectrogramPreprocessor`` at release 1.23.

    The shipped preprocessor cannot do this for padded batches: it reflects and normalises over the padding.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._window = torch.zeros(_FFT, device=device)
        start = (_FFT - _WINDOW_SAMPLES) // 2
        self._window[start : start + _WINDOW_SAMPLES] = torch.hann_window(_WINDOW_SAMPLES, periodic=False)
        self._filters = torch.from_numpy(build_mel_filters()).to(device)

    def __call__(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            audio: (B, T) float32, zero-padded on the right.
            lengths: (B,) int64 samples, each at least ``MIN_SAMPLES``.

        Returns:
            (B, 80, F) float32 with zeros beyond each item's frames, and the (B,) int64 numbers of frames.
        """
        counts = count_mel_frames(lengths)
        frames = _reflect(_emphasise(audio), lengths).unfold(1, _FFT, HOP_SAMPLES)[:, : int(counts.max())]
        power = torch.fft.rfft(frames * self._window).abs().square()
        log_mel = (power @ self._filters + _LOG_GUARD).log().transpose(1, 2)
        return _normalise(log_mel, counts), counts


def build_mel_filters() -> NDArray[np.float32]:
    """Build Slaney's triangular filters of unit area, (257, 80): equal to ``librosa.filters.mel`` at 16 kHz."""
    allow_torchaudio()  # transformers imports it beside the filters
    from transformers.audio_utils import mel_filter_bank  # noqa: PLC0415 - after allow_torchaudio

    filters: NDArray[np.float64] = mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=MELS,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return filters.astype(np.float32)


def _emphasise(audio: Tensor) -> Tensor:
    return torch.cat([audio[:, :1], audio[:, 1:] - _PREEMPHASIS * audio[:, :-1]], dim=1)


def _reflect(audio: Tensor, lengths: Tensor) -> Tensor:
    """Extend each item by its own reflection, half a window on either side; samples beyond that are arbitrary."""
    last = lengths[:, None] - 1
    place = torch.arange(-_REFLECTED, audio.shape[1] + _REFLECTED, device=audio.device).abs()[None]
    mirrored = torch.where(place > last, 2 * last - place, place).clamp(min=0)
    return audio.gather(1, mirrored)


def _normalise(log_mel: Tensor, counts: Tensor) -> Tensor:
    """Normalise over each item's own frames.

    The moments are computed in double precision: in digital silence all frames are equal, and the rounding error that
    single precision leaves, divided by a deviation of almost zero, would be noise that depends on the batch.
    """
    mask = torch.arange(log_mel.shape[2], device=log_mel.device) < counts[:, None, None]
    values = log_mel.double().masked_fill(~mask, 0.0)
    n = counts[:, None, None]
    centred = (values - values.sum(dim=2, keepdim=True) / n).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(dim=2, keepdim=True) / (n - 1)).sqrt()
    return (centred / (deviation + _DEVIATION_FLOOR)).float()

"""Compute the features of IndicConformer: normalised log-mel features, as in its published ``preprocessor.ts``."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import SAMPLE_RATE
from validation.models.import_shims import allow_torchaudio

HOP_SAMPLES = 160
MELS = 80
MIN_SAMPLES = 400
"""The shortest audio, in samples: one analysis window. Reflection needs only 257 samples, the deviation two frames."""

_FFT = 512
_WINDOW_SAMPLES = 400
_PREEMPHASIS = 0.97
_LOG_GUARD = 2.0**-24
_DEVIATION_FLOOR = 1e-5
_REFLECTED = _FFT // 2


CountsT = TypeVar("CountsT", int, NDArray[np.int64], Tensor)
"""A length or count, or an array or tensor of them."""


def count_mel_frames(lengths: CountsT) -> CountsT:
    """Count the feature frames of audio with these lengths in samples: one per hop, and one at the end."""
    return lengths // HOP_SAMPLES + 1


class LogMel:
    """The front end, which computes log-mel features. Those of an item do not depend on the rest of the batch.

    The steps are those of NeMo's ``AudioToMelSpectrogramPreprocessor`` at release 1.23, without dither: pre-emphasis
    0.97; reflection by half a window at the item's own ends; |STFT|^2 with 512 points, a symmetric Hann window of 400
    samples and a hop of 160; 80 Slaney mels up to 8 kHz; ln(x + 2^-24); normalisation of each mel to zero mean and unit
    deviation (n - 1) over the item's own frames.

    The published ``preprocessor.ts`` is wrong for padded batches: it reflects and normalises over the padding.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._window = torch.zeros(_FFT, device=device)
        start = (_FFT - _WINDOW_SAMPLES) // 2
        self._window[start : start + _WINDOW_SAMPLES] = torch.hann_window(_WINDOW_SAMPLES, periodic=False)
        self._filters = torch.from_numpy(build_mel_filters()).to(device)

    def __call__(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch.

        Args:
            audio: (B, T) float32, zero-padded on the right, on the device of the front end.
            lengths: (B,) int64 lengths in samples, each at least ``MIN_SAMPLES``, on the same device.

        Returns:
            (B, 80, T // 160 + 1) float32 features with zeros beyond each item's frames, and the (B,) int64 numbers of
            frames, both on that device.
        """
        counts = count_mel_frames(lengths)
        frames = _reflect(_emphasise(audio), lengths).unfold(1, _FFT, HOP_SAMPLES)
        power = torch.fft.rfft(frames * self._window).abs().square()
        log_mel = (power @ self._filters + _LOG_GUARD).log().transpose(1, 2)
        return _normalise(log_mel, counts), counts


def build_mel_filters() -> NDArray[np.float32]:
    """Build Slaney's triangular filters of unit area, (257, 80): equal to ``librosa.filters.mel`` at 16 kHz."""
    allow_torchaudio()  # transformers imports torchaudio in the module of the filters
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
    """Subtract ``_PREEMPHASIS`` times the sample before from each sample."""
    return torch.cat([audio[:, :1], audio[:, 1:] - _PREEMPHASIS * audio[:, :-1]], dim=1)


def _reflect(audio: Tensor, lengths: Tensor) -> Tensor:
    """Extend each item of (B, T) audio by its own reflection, 256 samples on each side, to (B, T + 512).

    Samples further right have no meaning.
    """
    last = lengths[:, None] - 1
    place = torch.arange(-_REFLECTED, audio.shape[1] + _REFLECTED, device=audio.device).abs()[None]
    mirrored = torch.where(place > last, 2 * last - place, place).clamp(min=0)
    return audio.gather(1, mirrored)


def _normalise(log_mel: Tensor, counts: Tensor) -> Tensor:
    """Normalise each mel of (B, 80, F) features to zero mean and unit deviation over each item's own frames.

    The moments are computed in double precision. In digital silence all frames are equal and the deviation is almost
    zero. Divided by it, the rounding error of single precision would become noise that depends on the batch.
    """
    mask = torch.arange(log_mel.shape[2], device=log_mel.device) < counts[:, None, None]
    values = log_mel.double().masked_fill(~mask, 0.0)
    n = counts[:, None, None]
    centred = (values - values.sum(dim=2, keepdim=True) / n).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(dim=2, keepdim=True) / (n - 1)).sqrt()
    return (centred / (deviation + _DEVIATION_FLOOR)).float()

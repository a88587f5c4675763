"""The network of MMS-LID: wav2vec 2.0 as transformers builds it, made fit for batches and half precision."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import remove_parametrizations

from validation.domain import SAMPLE_RATE
from validation.errors import BadInput
from validation.models.import_shims import allow_torchaudio

FRONT_END_S = 80.0
"""Seconds that go through the convolutions at once. They take 3.3 MB a second and layer in half precision, three
layers at a time: more than all of the transformer, which then has the memory that a batch is measured by."""
SHORTEST_SAMPLES = 400
"""What one frame of the convolutions hears."""

_VARIANCE_FLOOR = 1e-7
"""``Wav2Vec2FeatureExtractor``'s own."""


class MmsNetwork:
    """Waveforms in, the probability of each label out.

    Padding moves no answer: convolutions are not padded, each frame is normalised by itself, padded frames are zeroed
    before the positional convolution and masked in attention and in the mean.

    In half precision the weights are half; the mean over time and the head are not, because a sum over a minute's
    frames leaves float16's range.
    """

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        """Take a ``Wav2Vec2ForSequenceClassification`` over; its modules are changed in place."""
        encoder, model = network.wav2vec2.encoder, network.wav2vec2
        # The weight norm of the positional convolution would be computed anew in every call.
        remove_parametrizations(encoder.pos_conv_embed.conv, "weight")
        network.eval().to(device, dtype)
        model.feature_extractor = _InSlices(model.feature_extractor, round(FRONT_END_S * SAMPLE_RATE))
        network.projector = _InFloat32(network.projector)
        network.classifier = _InFloat32(network.classifier)
        self._network, self._device, self._dtype = network, device, dtype

    @property
    def labels(self) -> list[str]:
        """What its outputs mean, in their order."""
        config = self._network.config
        return [config.id2label[index] for index in range(config.num_labels)]

    @torch.inference_mode()
    def hear(self, waveforms: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Hear (B, T) waveforms of true lengths (B,), each at least ``SHORTEST_SAMPLES``: (B, L) probabilities."""
        audio = torch.from_numpy(waveforms).to(self._device, non_blocking=True)
        counts = torch.from_numpy(lengths).to(self._device, non_blocking=True)
        real = torch.arange(audio.shape[1], device=audio.device) < counts[:, None]
        values = normalise(audio, real).to(self._dtype)
        logits = self._network(values, attention_mask=real.long()).logits
        p: NDArray[np.float64] = logits.double().softmax(dim=-1).cpu().numpy()
        return p


def load_mms(folder: Path, device: str, dtype: torch.dtype) -> MmsNetwork:
    """Load a folder as ``save_pretrained`` writes it, from nowhere else.

    Raises:
        BadInput: the folder holds another kind of model: with group norm, for one, answers depend on the padding.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is first imported
    allow_torchaudio()
    library: Any = import_module("transformers")
    library.utils.logging.disable_progress_bar()  # a worker's log is no place for it
    extractor = library.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    network = library.Wav2Vec2ForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, attn_implementation="sdpa"
    )
    _require(folder, "feat_extract_norm", network.config.feat_extract_norm, "layer")
    _require(folder, "do_normalize", extractor.do_normalize, True)
    _require(folder, "sampling_rate", extractor.sampling_rate, SAMPLE_RATE)
    return MmsNetwork(network, device, dtype)


def normalise(audio: Tensor, real: Tensor) -> Tensor:
    """Bring each utterance to zero mean and unit variance, its padding to zero.

    Args:
        audio: (B, T) float32, zero where there is no audio.
        real: (B, T) bool, where there is.

    Returns:
        (B, T) as ``Wav2Vec2FeatureExtractor(do_normalize=True)`` makes them of each utterance alone.
    """
    count = real.sum(dim=1, keepdim=True)
    centred = (audio - audio.sum(dim=1, keepdim=True) / count) * real
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / (variance + _VARIANCE_FLOOR).sqrt()


class _InSlices(nn.Module):
    """A module that treats rows apart, given few enough of them at a time to bound its memory."""

    def __init__(self, inner: nn.Module, most_samples: int) -> None:
        super().__init__()
        self.inner, self.most_samples = inner, most_samples

    def forward(self, audio: Tensor) -> Tensor:
        rows = max(1, self.most_samples // audio.shape[1])
        return torch.cat([self.inner(audio[start : start + rows]) for start in range(0, len(audio), rows)])


class _InFloat32(nn.Module):
    """A module that computes in single precision, whatever it is given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.float()

    def forward(self, hidden: Tensor) -> Any:
        return self.inner(hidden.float())


def _require(folder: Path, key: str, found: object, expected: object) -> None:
    if found != expected:
        raise BadInput(f"{folder}: {key} is {found!r}; MMS-LID has {expected!r}, and only so is padding harmless")

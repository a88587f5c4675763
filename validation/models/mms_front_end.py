"""The convolutions of MMS-LID, as matrix products on frames."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrameFrontEnd(nn.Module):
    """The feature extractor of a wav2vec 2.0 with layer norms, equal to the library's up to rounding.

    The library keeps channels before time, so each layer transposes twice around its norm. Here time is before
    channels: a frame's input is contiguous, the convolution is a product of matrices, and the norm needs no transpose.
    On one CPU core this takes half of the time.
    """

    def __init__(self, stock: Any, max_samples: int) -> None:
        """Take the weights over.

        Args:
            stock: a ``Wav2Vec2FeatureEncoder`` with ``feat_extract_norm`` ``layer``.
            max_samples: the greatest product of rows and samples that is computed at once; it bounds the memory.
        """
        super().__init__()
        self.layers = nn.ModuleList(_FrameLayer(layer) for layer in stock.conv_layers)
        self.max_samples = max_samples

    def forward(self, audio: Tensor) -> Tensor:
        """Compute features: (B, T) to (B, C, F)."""
        rows = max(1, self.max_samples // audio.shape[1])
        return torch.cat([self._run(audio[start : start + rows]) for start in range(0, len(audio), rows)])

    def _run(self, audio: Tensor) -> Tensor:
        hidden = audio[:, :, None].contiguous()
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden.transpose(1, 2)


class _FrameLayer(nn.Module):
    """A convolution without padding, a layer norm and an activation: (B, T, C) to (B, T', C')."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        conv = stock.conv
        (self.kernel,), (self.stride,) = conv.kernel_size, conv.stride
        self.linear = nn.Linear(conv.in_channels * self.kernel, conv.out_channels, bias=conv.bias is not None)
        weights = conv.weight.detach().transpose(1, 2).flatten(1)
        self.linear.load_state_dict({"weight": weights} | ({} if conv.bias is None else {"bias": conv.bias}))
        self.norm, self.activation = stock.layer_norm, stock.activation

    def forward(self, hidden: Tensor) -> Tensor:
        batch, frames, channels = hidden.shape
        count = (frames - self.kernel) // self.stride + 1
        windows = hidden.as_strided(
            (batch, count, self.kernel * channels), (frames * channels, self.stride * channels, 1)
        )
        projected = functional.linear(windows, self.linear.weight, self.linear.bias)
        activated: Tensor = self.activation(self.norm(projected))
        return activated

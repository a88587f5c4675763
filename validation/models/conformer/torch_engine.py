"""Run IndicConformer in torch in any precision: a FastConformer with a CTC head, whose results ignore padding.

Modules have NeMo's names, so that weights load by name. Rekesh et al. 2023 (arXiv 2305.05084) describe the encoder, and
Gulati et al. 2020 (arXiv 2005.08100) its layers. Batch norms are folded into the convolutions before them, as in the
exported graph.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from validation.models.conformer.mel import CountsT, LogMel, count_mel_frames
from validation.models.conformer.segment import EngineOutput
from validation.models.conformer.tokenizer import BLANK
from validation.models.upload import DeviceAudio

_FEED_FORWARD_WEIGHT = 0.5
"""The weight of the two feed-forward modules of a layer, which enclose attention and convolution (macaron style)."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """The sizes of a network. IndicConformer-600M has 24 layers of width 1024 with 8 heads."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    """The width between the two linear layers of a feed-forward module."""
    kernel: int
    """The number of frames that the depthwise convolution of a layer covers."""
    channels: int
    """The channels of the convolutions of the subsampling."""
    strided_convs: int
    """The number of convolutions of stride 2. Three of them turn eight frames into one."""
    mels: int
    symbols: int
    """The number of outputs of the head: the pieces of all languages, and the blank."""
    scales_input: bool
    """Whether the subsampled features are multiplied by the root of the width."""


class FastConformer(nn.Module):
    """The network, which computes one logit per symbol of all languages from log-mel features."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.pre_encode = Subsampling(shape)
        self.layers = nn.ModuleList(ConformerLayer(shape) for _ in range(shape.layers))
        self.head = nn.Linear(shape.width, shape.symbols)

    def forward(self, features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of a batch.

        Args:
            features: (B, mels, F), zero beyond each item's own frames.
            counts: (B,) int64 number of feature frames of each item.

        Returns:
            (B, T, symbols) logits, and the (B,) number of output frames of each item.
        """
        hidden, lengths = self.pre_encode(features, counts)
        if self.shape.scales_input:
            hidden = hidden * math.sqrt(self.shape.width)
        positions = encode_positions(hidden.shape[1], self.shape.width, hidden)
        mask = length_mask(lengths, hidden.shape[1])
        for layer in self.layers:
            hidden = layer(hidden, positions, mask)
        return self.head(hidden), lengths


class Subsampling(nn.Module):
    """The subsampling: convolutions with stride 2 in time and frequency, then one projection to the width."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        strided: list[nn.Module] = [nn.Conv2d(1, shape.channels, 3, stride=2, padding=1), nn.ReLU()]
        mels = halve_lengths(shape.mels)
        for _ in range(shape.strided_convs - 1):
            depthwise = nn.Conv2d(shape.channels, shape.channels, 3, stride=2, padding=1, groups=shape.channels)
            strided += [depthwise, nn.Conv2d(shape.channels, shape.channels, 1), nn.ReLU()]
            mels = halve_lengths(mels)
        self.conv = nn.Sequential(*strided)
        self.out = nn.Linear(shape.channels * mels, shape.width)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce (B, mels, F) features to (B, T, width); return them and the (B,) numbers of frames of the items."""
        hidden = features.transpose(1, 2)[:, None]
        for module in self.conv:
            if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                # Bias and ReLU changed the zeros of the padding. The convolution would mix them into the last frames.
                hidden = hidden * length_mask(lengths, hidden.shape[2])[:, None, :, None]
                lengths = halve_lengths(lengths)
            hidden = module(hidden)
        return self.out(hidden.transpose(1, 2).flatten(2)), lengths


class ConformerLayer(nn.Module):
    """A layer of feed-forward, attention, convolution and feed-forward, each with pre-norm and a residual."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.norm_feed_forward1 = nn.LayerNorm(shape.width)
        self.feed_forward1 = FeedForward(shape)
        self.norm_self_att = nn.LayerNorm(shape.width)
        self.self_attn = RelativeAttention(shape)
        self.norm_conv = nn.LayerNorm(shape.width)
        self.conv = ConvolutionModule(shape)
        self.norm_feed_forward2 = nn.LayerNorm(shape.width)
        self.feed_forward2 = FeedForward(shape)
        self.norm_out = nn.LayerNorm(shape.width)

    def forward(self, hidden: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Compute (B, T, width) from (B, T, width), with ``encode_positions`` and the ``length_mask`` of the items."""
        hidden = hidden + _FEED_FORWARD_WEIGHT * self.feed_forward1(self.norm_feed_forward1(hidden))
        hidden = hidden + self.self_attn(self.norm_self_att(hidden), positions, mask)
        hidden = hidden + self.conv(self.norm_conv(hidden), mask)
        hidden = hidden + _FEED_FORWARD_WEIGHT * self.feed_forward2(self.norm_feed_forward2(hidden))
        normed: Tensor = self.norm_out(hidden)
        return normed


class FeedForward(nn.Module):
    """Two linear layers with a SiLU activation between them."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.linear1 = nn.Linear(shape.width, shape.feed_forward)
        self.linear2 = nn.Linear(shape.feed_forward, shape.width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute (B, T, width) from (B, T, width)."""
        projected: Tensor = self.linear2(functional.silu(self.linear1(hidden)))
        return projected


class RelativeAttention(nn.Module):
    """Self-attention with relative positions, as in Transformer-XL (Dai et al. 2019, arXiv 1901.02860)."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(shape.width, shape.width) for _ in range(4)
        )
        self.linear_pos = nn.Linear(shape.width, shape.width, bias=False)
        self.pos_bias_u, self.pos_bias_v = (
            nn.Parameter(torch.zeros(shape.heads, shape.width // shape.heads)) for _ in range(2)
        )

    def forward(self, hidden: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Compute (B, T, width) from (B, T, width); each frame attends to the frames for which ``mask`` is True."""
        query, key, value, distance = map(
            self._split_heads,
            (self.linear_q(hidden), self.linear_k(hidden), self.linear_v(hidden), self.linear_pos(positions)),
        )
        # The queries are scaled before the products: an unscaled score may exceed 65,504 and overflow in float16.
        scale = 1 / math.sqrt(query.shape[3])
        by_content, by_distance = (scale * (query + bias[:, None]) for bias in (self.pos_bias_u, self.pos_bias_v))
        scores = shift_distances(by_distance @ distance.transpose(2, 3)).masked_fill(~mask[:, None, None, :], -math.inf)
        mixed = functional.scaled_dot_product_attention(by_content, key, value, attn_mask=scores, scale=1.0)
        attended: Tensor = self.linear_out(mixed.transpose(1, 2).flatten(2))
        return attended

    def _split_heads(self, hidden: Tensor) -> Tensor:
        """Split into heads: (B, T, D) to (B, H, T, D / H)."""
        return hidden.reshape(*hidden.shape[:2], self.heads, -1).transpose(1, 2)


class ConvolutionModule(nn.Module):
    """A pointwise convolution with a GLU, a depthwise convolution with SiLU, and a pointwise convolution."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(shape.width, 2 * shape.width, 1)
        self.depthwise_conv = nn.Conv1d(
            shape.width, shape.width, shape.kernel, padding=shape.kernel // 2, groups=shape.width
        )
        self.pointwise_conv2 = nn.Conv1d(shape.width, shape.width, 1)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Compute (B, T, width) from (B, T, width); frames for which ``mask`` is False count as zero."""
        gated = functional.glu(self.pointwise_conv1(hidden.transpose(1, 2)), dim=1) * mask[:, None]
        mixed: Tensor = self.pointwise_conv2(functional.silu(self.depthwise_conv(gated)))
        return mixed.transpose(1, 2)


def halve_lengths(lengths: CountsT) -> CountsT:
    """Return the output lengths of a convolution with kernel 3, stride 2 and padding 1 for these input lengths."""
    return (lengths - 1) // 2 + 1


def length_mask(lengths: Tensor, frames: int) -> Tensor:
    """Return the (B, frames) bool mask of each item's own frames."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def encode_positions(frames: int, width: int, like: Tensor) -> Tensor:
    """Encode the distances from ``frames - 1`` down to its negative as sines and cosines.

    Returns:
        (1, 2 * frames - 1, width) with the device and the data type of ``like``.
    """
    distance = torch.arange(frames - 1, -frames, -1, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=torch.float32) * (-math.log(10_000.0) / width))
    return torch.stack([(distance * rate).sin(), (distance * rate).cos()], dim=2).flatten(1)[None].to(like.dtype)


def shift_distances(scores: Tensor) -> Tensor:
    """Turn scores by distance, (B, H, T, 2 T - 1), into scores by key, (B, H, T, T)."""
    batch, heads, frames, distances = scores.shape
    padded = functional.pad(scores, (1, 0)).view(batch, heads, distances + 1, frames)
    return padded[:, :, 1:].reshape(batch, heads, frames, distances)[..., :frames]


class TorchEngine:
    """The engine that runs the published weights in ``FastConformer``.

    In half precision the weights and activations are half. Features, the moments of norms and all log-probabilities are
    computed in float32.
    """

    def __init__(
        self, network: FastConformer, columns: NDArray[np.int64], *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Move a network to the device and the precision.

        Args:
            network: the network with its weights.
            columns: (L, 257) indices of the logits of each language; the blank comes last.
            device: the device to compute on.
            dtype: the precision of the network.
        """
        self.name = f"torch-{str(dtype).removeprefix('torch.')}"
        self._device, self._dtype, self._mel = device, dtype, LogMel(device)
        self._network = network.to(device, dtype)
        self._columns = torch.from_numpy(columns).to(device)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers of the encoder, which are most of the work."""
        return self._network.layers

    @torch.inference_mode()
    def run(self, audio: DeviceAudio, languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch, as ``Engine`` documents. On a GPU the host does not wait for the results."""
        features, counts = self._mel(audio.waveforms, audio.lengths)
        logits, lengths = self._network(features.to(self._dtype), counts)
        columns = self._columns[torch.from_numpy(languages).to(self._device, non_blocking=True)]
        own = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1)).float().log_softmax(dim=2)
        sums, tokens = self._score_languages(logits, lengths)
        return EngineOutput(own, self._count_frames(audio.host_lengths), sums, tokens)

    def _count_frames(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the output frames of audio with these lengths in samples.

        The network computes the same numbers, but on the device, for which the host would have to wait.
        """
        frames = count_mel_frames(samples)
        for _ in range(self._network.shape.strided_convs):
            frames = halve_lengths(frames)
        return frames

    def _score_languages(self, logits: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, L) float32 ``best_sums`` and ``best_counts`` of ``EngineOutput``.

        ``frames`` is the (B,) number of frames of each item, on the device.
        """
        mask = length_mask(frames, logits.shape[1])
        scores = [
            sum_greedy_tokens(logits[:, :, columns].float().log_softmax(dim=2), mask) for columns in self._columns
        ]
        sums, counts = zip(*scores, strict=True)
        return torch.stack(sums, dim=1), torch.stack(counts, dim=1)


def sum_greedy_tokens(log_probs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the log-probabilities of the greedy text's tokens, and count the tokens.

    Args:
        log_probs: (B, T, 257) log-probabilities of the symbols of one language, the blank last.
        mask: (B, T) bool, True for an item's own frames.

    Returns:
        (B,) sums and (B,) float32 counts.
    """
    best_lp, best = log_probs.max(dim=2)
    repeated = torch.zeros_like(mask)
    repeated[:, 1:] = best[:, 1:] == best[:, :-1]
    counted = (mask & ~repeated & (best != BLANK)).float()
    return (best_lp * counted).sum(dim=1), counted.sum(dim=1)

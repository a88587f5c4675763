"""A tiny IndicConformer in the file layout of the real model: graphs, hundreds of weight files, vocabulary and masks.

Its weights are random, so its texts are meaningless. The network follows NeMo 1.23 and shares no code with this
project's model. Like the exported real model, it lacks the masks that remove the effect of padding.
"""

import json
import math
import unicodedata
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

_BENGALI, _DEVANAGARI, _ARABIC = 0x0980, 0x0900, 0x0620
LETTERS = {
    **dict.fromkeys(("as", "bn", "mni"), _BENGALI),
    **dict.fromkeys(("brx", "doi", "hi", "kok", "mai", "mr", "ne", "sa"), _DEVANAGARI),
    **dict.fromkeys(("ks", "sd", "ur"), _ARABIC),
    "gu": 0x0A80,
    "kn": 0x0C80,
    "ml": 0x0D00,
    "or": 0x0B00,
    "pa": 0x0A00,
    "sat": 0x1C50,
    "ta": 0x0B80,
    "te": 0x0C00,
}
"""The first code point of each language's Unicode block."""
_PIECES = 256
_MELS = 80
_MAX_FRAMES = 5000
"""Length of the table of relative positions, in frames of 80 ms, as in NeMo."""
_MASKED = -10_000.0


@dataclass(frozen=True)
class ConformerSize:
    """The dimensions of a network. Kernels and strides are those of the real model."""

    layers: int = 2
    width: int = 16
    heads: int = 2
    feed_forward: int = 32
    channels: int = 4
    scales_input: bool = True


def save_conformer(folder: Path, size: ConformerSize | None = None, *, seed: int = 0) -> Path:
    """Save a random IndicConformer in the layout of its repository, with one file per weight. Return the folder."""
    assets = folder / "assets"
    assets.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    encoder, head = _StockEncoder(size or ConformerSize()).eval(), _StockHead((size or ConformerSize()).width)
    _randomise_norms(encoder)
    features, lengths = torch.randn(2, _MELS, 41), torch.tensor([41, 30])
    encoded, _ = encoder(features, lengths)
    _export(
        encoder,
        (features, lengths),
        assets / "encoder.onnx",
        ["audio_signal", "length"],
        ["outputs", "encoded_lengths"],
    )
    _export(head.eval(), (encoded,), assets / "ctc_decoder.onnx", ["encoder_output"], ["logprobs"])
    _scatter_weights(assets / "encoder.onnx")
    save_vocabulary(assets)
    (folder / "config.json").write_text(json.dumps({"model_type": "iasr", "BLANK_ID": _PIECES}))
    return folder


def save_vocabulary(assets: Path) -> None:
    """Save the subword pieces and masks of 22 languages. As in a byte-pair vocabulary, merges precede letters."""
    languages, width = sorted(LETTERS), _PIECES * len(LETTERS) + 1
    vocabulary = {language: [*make_pieces(LETTERS[language]), "|"] for language in languages}
    masks = {
        language: [column // _PIECES == index or column == width - 1 for column in range(width)]
        for index, language in enumerate(languages)
    }
    (assets / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (assets / "language_masks.json").write_text(json.dumps(masks), encoding="utf-8")


def make_pieces(block: int) -> list[str]:
    """Make the 256 subword pieces of a language from the letters of its Unicode block."""
    characters = map(chr, range(block, block + 0x60))
    letters = ["▁", *(letter for letter in characters if unicodedata.category(letter)[0] in "LM")][:64]
    pairs = (left + right for left, right in product(letters, letters[1:]))
    merges = [pair for pair in pairs if unicodedata.is_normalized("NFC", pair)]
    return ["<unk>", *merges[: _PIECES - 1 - len(letters)], *letters]


class _StockEncoder(nn.Module):
    """The ``ConformerEncoder`` of NeMo 1.23, with depthwise subsampling and relative positions."""

    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.pre_encode = _StockSubsampling(size)
        self.pos_enc = _StockPositions(size)
        self.layers = nn.ModuleList(_StockLayer(size) for _ in range(size.layers))

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        hidden, length = self.pre_encode(audio_signal.transpose(1, 2), length)
        hidden, positions = self.pos_enc(hidden)
        real = torch.arange(hidden.size(1), device=hidden.device).expand(length.size(0), -1) < length[:, None]
        pairs = real[:, None].repeat([1, hidden.size(1), 1])
        masked = ~(pairs & pairs.transpose(1, 2))
        for layer in self.layers:
            hidden = layer(hidden, positions, masked, ~real)
        return hidden.transpose(1, 2), length


class _StockSubsampling(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        stages: list[nn.Module] = [nn.Conv2d(1, size.channels, 3, 2, 1), nn.ReLU()]
        for _ in range(2):
            stages.append(nn.Conv2d(size.channels, size.channels, 3, 2, 1, groups=size.channels))
            stages += [nn.Conv2d(size.channels, size.channels, 1), nn.ReLU()]
        self.conv = nn.Sequential(*stages)
        self.out = nn.Linear(size.channels * _MELS // 8, size.width)

    def forward(self, features: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(3):
            length = torch.div(length - 1, 2, rounding_mode="floor") + 1
        hidden = self.conv(features.unsqueeze(1))
        batch, channels, frames, mels = hidden.size()
        return self.out(hidden.transpose(1, 2).reshape(batch, frames, channels * mels)), length


class _StockPositions(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.scale = math.sqrt(size.width) if size.scales_input else None
        distance = torch.arange(_MAX_FRAMES - 1, -_MAX_FRAMES, -1, dtype=torch.float32)[:, None]
        rate = torch.exp(torch.arange(0, size.width, 2, dtype=torch.float32) * -(math.log(10_000.0) / size.width))
        table = torch.zeros(len(distance), size.width)
        table[:, 0::2], table[:, 1::2] = torch.sin(distance * rate), torch.cos(distance * rate)
        self.table = [table[None]]  # in a list, so that the exporter writes a constant and not a weight

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale is not None:
            hidden = hidden * self.scale
        centre, frames = self.table[0].size(1) // 2 + 1, hidden.size(1)
        return hidden, self.table[0][:, centre - frames : centre + frames - 1]


class _StockLayer(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.norm_feed_forward1, self.norm_self_att, self.norm_conv, self.norm_feed_forward2, self.norm_out = (
            nn.LayerNorm(size.width) for _ in range(5)
        )
        self.feed_forward1, self.feed_forward2 = _StockFeedForward(size), _StockFeedForward(size)
        self.self_attn, self.conv = _StockAttention(size), _StockConvolution(size)

    def forward(self, hidden: Tensor, positions: Tensor, masked: Tensor, padding: Tensor) -> Tensor:
        hidden = hidden + 0.5 * self.feed_forward1(self.norm_feed_forward1(hidden))
        hidden = hidden + self.self_attn(self.norm_self_att(hidden), positions, masked)
        hidden = hidden + self.conv(self.norm_conv(hidden), padding)
        hidden = hidden + 0.5 * self.feed_forward2(self.norm_feed_forward2(hidden))
        normed: Tensor = self.norm_out(hidden)
        return normed


class _StockFeedForward(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.linear1, self.activation = nn.Linear(size.width, size.feed_forward), nn.SiLU()
        self.linear2 = nn.Linear(size.feed_forward, size.width)

    def forward(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.linear2(self.activation(self.linear1(hidden)))
        return projected


class _StockAttention(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.h, self.d_k = size.heads, size.width // size.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(size.width, size.width) for _ in range(4)
        )
        self.linear_pos = nn.Linear(size.width, size.width, bias=False)
        self.pos_bias_u, self.pos_bias_v = (nn.Parameter(torch.randn(self.h, self.d_k)) for _ in range(2))

    def forward(self, hidden: Tensor, positions: Tensor, masked: Tensor) -> Tensor:
        batch = hidden.size(0)
        query = self.linear_q(hidden).view(batch, -1, self.h, self.d_k)
        key = self.linear_k(hidden).view(batch, -1, self.h, self.d_k).transpose(1, 2)
        value = self.linear_v(hidden).view(batch, -1, self.h, self.d_k).transpose(1, 2)
        distance = self.linear_pos(positions).view(positions.size(0), -1, self.h, self.d_k).transpose(1, 2)
        by_content = torch.matmul((query + self.pos_bias_u).transpose(1, 2), key.transpose(-2, -1))
        by_distance = self._shift(torch.matmul((query + self.pos_bias_v).transpose(1, 2), distance.transpose(-2, -1)))
        scores = (by_content + by_distance[:, :, :, : by_content.size(-1)]) / math.sqrt(self.d_k)
        scores = scores.masked_fill(masked.unsqueeze(1), _MASKED)
        attention = torch.softmax(scores, dim=-1).masked_fill(masked.unsqueeze(1), 0.0)
        mixed = torch.matmul(attention, value).transpose(1, 2).reshape(batch, -1, self.h * self.d_k)
        attended: Tensor = self.linear_out(mixed)
        return attended

    def _shift(self, scores: Tensor) -> Tensor:
        batch, heads, frames, distances = scores.size()
        padded = nn.functional.pad(scores, pad=(1, 0)).view(batch, heads, -1, frames)
        return padded[:, :, 1:].view(batch, heads, frames, distances)


class _StockConvolution(nn.Module):
    def __init__(self, size: ConformerSize) -> None:
        super().__init__()
        self.pointwise_conv1 = nn.Conv1d(size.width, 2 * size.width, 1)
        self.depthwise_conv = nn.Conv1d(size.width, size.width, 9, padding=4, groups=size.width)
        self.batch_norm, self.activation = nn.BatchNorm1d(size.width), nn.SiLU()
        self.pointwise_conv2 = nn.Conv1d(size.width, size.width, 1)

    def forward(self, hidden: Tensor, padding: Tensor) -> Tensor:
        gated = nn.functional.glu(self.pointwise_conv1(hidden.transpose(1, 2)), dim=1)
        gated = gated.masked_fill(padding.unsqueeze(1), 0.0)
        mixed: Tensor = self.pointwise_conv2(self.activation(self.batch_norm(self.depthwise_conv(gated))))
        return mixed.transpose(1, 2)


class _StockHead(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.decoder_layers = nn.Sequential(nn.Conv1d(width, _PIECES * len(LETTERS) + 1, 1))
        # With the default initialisation, all symbols would have about the same probability for any audio.
        nn.init.normal_(self.get_parameter("decoder_layers.0.weight"), std=0.5)

    def forward(self, encoder_output: Tensor) -> Tensor:
        logits: Tensor = self.decoder_layers(encoder_output).transpose(1, 2)
        return logits


def _randomise_norms(network: nn.Module) -> None:
    """Draw random parameters of the norms. By default a norm is the identity, which a trained norm never is."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.get_buffer("running_mean"), 0, 0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)


def _export(network: nn.Module, example: tuple[Tensor, ...], path: Path, inputs: list[str], outputs: list[str]) -> None:
    """Export a network to ONNX through TorchScript, as NeMo does. It names nodes by modules and folds batch norms."""
    input_axes = {"audio_signal": [0, 2], "length": [0], "encoder_output": [0, 2]}
    output_axes = {"outputs": [0, 2], "encoded_lengths": [0], "logprobs": [0, 1]}
    axes = {name: (input_axes | output_axes)[name] for name in (*inputs, *outputs)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, and warns about every size that it traces
        torch.onnx.export(
            network, example, path, input_names=inputs, output_names=outputs, dynamic_axes=axes, opset_version=17,
            dynamo=False,
        )  # fmt: skip


def _scatter_weights(path: Path) -> None:
    """Move each weight of an ONNX file, including constants in attributes, into a file with the weight's name."""
    proto = onnx.load(path)
    attributes = [
        (f"{node.name.strip('/').replace('/', '_')}_attr__value", attribute.t)
        for node in proto.graph.node
        for attribute in node.attribute
        if attribute.HasField("t") and attribute.t.ByteSize() > 1024  # noqa: PLR2004 - smaller ones stay inside
    ]
    for name, tensor in [*((tensor.name, tensor) for tensor in proto.graph.initializer), *attributes]:
        content = numpy_helper.to_array(tensor).tobytes()
        location = name.replace(":", "_")
        (path.parent / location).write_bytes(content)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    path.write_bytes(proto.SerializeToString())

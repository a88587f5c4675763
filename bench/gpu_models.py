"""The four networks of `indic` at full size with random weights. They are made on the GPU, so nothing is uploaded.

MMS-LID is the module of transformers in the suite's wrapper. IndicConformer is the suite's torch engine with its front
end, its 22 masks and the comparison of transcripts. The ECAPA-TDNN of VoxLingua107 and DNSMOS are reimplemented here
with the same shapes, because speechbrain and ONNX Runtime for CUDA are not installed on every GPU machine. The
ECAPA-TDNN uses the suite's reflecting convolutions. All networks share the suite's upload of a batch, queue their work
as the suite's models do, and read it back in one copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from validation.domain import SAMPLE_RATE, Answer, Column, Scored
from validation.hardware.device import allowing_tf32
from validation.hardware.streams import read_later
from validation.models.base import Answering, Batch
from validation.models.conformer.segment import EngineOutput, HostOutput, SegmentResult, join_pieces, score_transcripts
from validation.models.conformer.tokenizer import TokenizedTranscript
from validation.models.conformer.torch_engine import FastConformer, NetworkShape, TorchEngine, length_mask
from validation.models.import_shims import allow_torchaudio
from validation.models.mms_lid import MmsNetwork
from validation.models.upload import DeviceAudio, cut_windows_on_device, upload
from validation.models.voxlingua import FrameCounts, ReflectingConv1d

Plan: TypeAlias = Mapping[str, torch.dtype]
"""The precision of each network, by its name."""


def same_precision(dtype: torch.dtype) -> Plan:
    """Return the plan that runs every network in one precision, except the ECAPA-TDNN, which has only float32."""
    return dict.fromkeys(("conformer", "mms", "dnsmos"), dtype) | {"voxlingua": torch.float32}


PRODUCTION: Plan = same_precision(torch.float16) | {"dnsmos": torch.float32}
"""The precisions of production. ECAPA-TDNN and DNSMOS multiply in TF32."""


@dataclass(frozen=True)
class Sizes:
    """The layers, widths and channels of the networks. The defaults are those of the real models."""

    mms_layers: int = 48
    mms_width: int = 1280
    mms_conv: int = 512
    conformer_layers: int = 24
    conformer_width: int = 1024
    conformer_channels: int = 256
    ecapa_channels: int = 1024
    dnsmos_channels: int = 32
    dnsmos_samples: int = 144_160
    """Samples of one window of DNSMOS: 9.01 s at 16 kHz."""


COLUMNS = np.concatenate([np.arange(22 * 256).reshape(22, 256), np.full((22, 1), 22 * 256)], axis=1)
"""(22, 257) the columns of IndicConformer's output layer for each language. The last column is the blank."""
TINY = Sizes(2, 32, 16, 2, 32, 8, 16, 2, 16_000)
"""Small networks for a machine without a GPU. Every step runs, but the numbers are meaningless."""


class Net:
    """One network as a model of a suite. It returns one number per segment, after the number was copied to the CPU."""

    languages = None
    revision = "random"
    columns = (Column("value", "float", "none", "A number that depends on all of the audio."),)

    def __init__(self, name: str, device: str, dtype: torch.dtype, *, tf32: bool = False) -> None:
        self.name, self.device, self.dtype, self._tf32 = name, device, dtype, tf32

    def score(self, batch: Batch) -> Sequence[Answer]:
        return self.launch(batch)()

    def launch(self, batch: Batch) -> Answering:
        with torch.inference_mode(), allowing_tf32(self._tf32):
            read = read_later(self.compute(upload(batch, self.device)))
        return lambda: [Scored({"value": float(row.max())}) for row in read()[0]]

    def outputs(self, batch: Batch) -> Sequence[Tensor]:
        """Return the outputs per segment for the step ``parity``: float32 on the CPU, (n,) or (frames, n)."""
        with torch.inference_mode(), allowing_tf32(self._tf32):
            return list(self.compute(upload(batch, self.device)).float().cpu())

    def compute(self, audio: DeviceAudio) -> Tensor:
        """Return (B, n) outputs on the device."""
        raise NotImplementedError


class Mms(Net):
    def __init__(self, sizes: Sizes, device: str, dtype: torch.dtype, *, tf32: bool) -> None:
        super().__init__("mms", device, dtype, tf32=tf32)
        allow_torchaudio()
        from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

        config = Wav2Vec2Config(
            hidden_size=sizes.mms_width,
            num_hidden_layers=sizes.mms_layers,
            num_attention_heads=16,
            intermediate_size=4 * sizes.mms_width,
            conv_dim=(sizes.mms_conv,) * 7,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=True,
            classifier_proj_size=sizes.mms_width,
            num_labels=256,
        )
        with torch.device("meta"):
            stock = Wav2Vec2ForSequenceClassification(config)
        self.layers = stock.wav2vec2.encoder.layers
        self.network = MmsNetwork(fill(stock, device), device, dtype)

    def compute(self, audio: DeviceAudio) -> Tensor:
        return self.network.forward(audio).log()


class Conformer(Net):
    """IndicConformer by the suite's torch engine, with 22 masks and made-up transcripts of three tokens per second."""

    def __init__(self, sizes: Sizes, device: str, dtype: torch.dtype, *, tf32: bool) -> None:
        super().__init__("conformer", device, dtype, tf32=tf32)
        width = sizes.conformer_width
        shape = NetworkShape(
            sizes.conformer_layers, width, 8, 4 * width, 9, sizes.conformer_channels, 3, 80, 5633, scales_input=True
        )
        with torch.device("meta"):
            network = FastConformer(shape)
        self.engine = TorchEngine(fill(network, device), COLUMNS, device=device, dtype=dtype)
        self.layers = network.layers

    def launch(self, batch: Batch) -> Answering:
        output = HostOutput(self._run(batch))

        def answer() -> list[Answer]:
            output.wait()
            joined = [join_pieces(output, [n]) for n in range(len(batch))]
            segments = [SegmentResult("hi", make_transcript(len(rows[1])), *rows) for rows in joined]
            score_transcripts(segments, self.device, output.ready)
            return [Scored({"value": segment.transcript_score.transcript_lp}) for segment in segments]

        return answer

    def outputs(self, batch: Batch) -> Sequence[Tensor]:
        output = self._run(batch)
        return [own[:count] for own, count in zip(output.log_probs.cpu(), output.frames, strict=True)]

    def _run(self, batch: Batch) -> EngineOutput:
        with allowing_tf32(self._tf32):
            return self.engine.run(upload(batch, self.device), np.zeros(len(batch), np.int64))


def make_transcript(frames: int) -> TokenizedTranscript:
    """Make a transcript with one token per four frames. Its tokens are independent of the recognised tokens."""
    tokens = tuple(1 + n % 200 for n in range(max(1, frames // 4)))
    return TokenizedTranscript(tokens, tuple(n // 3 for n in range(len(tokens))), 1.0)


class Ecapa(Net):
    """An ECAPA-TDNN, always in single precision.

    It has channels [C, C, C, C, 3C], kernels [5, 3, 3, 3, 1] and dilations [1, 2, 3, 4, 1].
    """

    HOP, FFT, MELS, SCALE = 160, 400, 60, 8

    def __init__(self, sizes: Sizes, device: str, dtype: torch.dtype, *, tf32: bool) -> None:
        super().__init__("voxlingua", device, dtype, tf32=tf32)
        self.counts, width = FrameCounts(), sizes.ecapa_channels
        with torch.device("meta"):
            network = nn.ModuleDict(
                {
                    "mel": nn.Linear(self.FFT // 2 + 1, self.MELS, bias=False),
                    "first": self._reflecting(self.MELS, width, 5, 1),
                    "blocks": nn.ModuleList(self._block(width, dilation) for dilation in (2, 3, 4)),
                    "mfa": nn.Conv1d(3 * width, 3 * width, 1),
                    "attend": nn.Sequential(nn.Conv1d(9 * width, 128, 1), nn.Tanh(), nn.Conv1d(128, 3 * width, 1)),
                    "out": nn.Linear(6 * width, 107),
                }
            )
        self.network, self.window = fill(network, device), torch.hamming_window(self.FFT, device=device)

    def _reflecting(self, before: int, after: int, kernel: int, dilation: int) -> ReflectingConv1d:
        conv = nn.Conv1d(before, after, kernel, dilation=dilation)
        return ReflectingConv1d(conv, (kernel - 1) * dilation // 2, self.counts)

    def _block(self, width: int, dilation: int) -> nn.ModuleDict:
        part = width // self.SCALE
        parts = nn.ModuleList(self._reflecting(part, part, 3, dilation) for _ in range(self.SCALE - 1))
        squeeze = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, width), nn.Sigmoid())
        around = {"before": nn.Conv1d(width, width, 1), "after": nn.Conv1d(width, width, 1)}
        return nn.ModuleDict({**around, "parts": parts, "squeeze": squeeze})

    def compute(self, audio: DeviceAudio) -> Tensor:
        self.counts.of_items = counts = audio.lengths // self.HOP + 1
        spectrum = torch.stft(
            audio.waveforms, self.FFT, self.HOP, window=self.window, return_complex=True, pad_mode="constant"
        )
        real = length_mask(counts, spectrum.shape[2])[:, None]
        net = self.network
        mels = net["mel"]((spectrum.abs().square() * real).transpose(1, 2)).abs().add(1e-10).log().transpose(1, 2)
        hidden, kept = net["first"](mels - _mean(mels, real)).relu(), []
        for block in net["blocks"]:
            hidden = hidden + self._run_block(block, hidden, real)
            kept.append(hidden)
        hidden = net["mfa"](torch.cat(kept, 1)).relu()
        context = [_mean(hidden, real), _spread(hidden, real)]
        weight = net["attend"](torch.cat([hidden, *(c.expand_as(hidden) for c in context)], 1))
        weight = weight.masked_fill(~real, -torch.inf).softmax(2)
        mean = (weight * hidden).sum(2)
        spread = (weight * (hidden - mean[..., None]).square()).sum(2).clamp(1e-12).sqrt()
        return net["out"](torch.cat([mean, spread], 1)).log_softmax(-1)

    def _run_block(self, block: nn.ModuleDict, hidden: Tensor, real: Tensor) -> Tensor:
        first, *rest = block["before"](hidden).relu().chunk(self.SCALE, 1)
        outs, last = [first], None
        for part, conv in zip(rest, block["parts"], strict=True):
            last = conv(part if last is None else part + last).relu()
            outs.append(last)
        hidden = block["after"](torch.cat(outs, 1)).relu()
        return hidden * block["squeeze"](_mean(hidden, real)[..., 0])[..., None]


class Dnsmos(Net):
    """DNSMOS P.835: log power of 900 frames and 161 bins, then convolutions, then three linear layers."""

    def __init__(self, sizes: Sizes, device: str, dtype: torch.dtype, *, tf32: bool) -> None:
        super().__init__("dnsmos", device, dtype, tf32=tf32)
        c, self.samples = sizes.dnsmos_channels, sizes.dnsmos_samples
        plan = [(1, 4 * c), (4 * c, 2 * c), (2 * c, 2 * c), (2 * c, c), "pool", (c, c), "pool", (c, c), "pool"]
        with torch.device("meta"):
            layers = [
                layer
                for step in [*plan, (c, 2 * c)]
                for layer in ([nn.MaxPool2d(2)] if step == "pool" else [nn.Conv2d(*step, 3, padding=1), nn.ReLU()])
            ]
            head = [nn.Linear(2 * c, 4 * c), nn.ReLU(), nn.Linear(4 * c, 2 * c), nn.ReLU(), nn.Linear(2 * c, 3)]
            network = nn.ModuleList([nn.Sequential(*layers), nn.Sequential(*head)])
        self.convolve, self.rate = fill(network, device).to(dtype)
        self.window = torch.ones(320, device=device)

    def compute(self, audio: DeviceAudio) -> Tensor:
        counts = np.maximum(1, audio.host_lengths // self.samples).tolist()
        windows = cut_windows_on_device(audio, counts, self.samples)
        rated = torch.cat([self._rate(part) for part in windows.split(8)])
        return torch.stack([own.mean(0) for own in rated.split(counts)])

    def _rate(self, windows: Tensor) -> Tensor:
        spectrum = torch.stft(windows, 320, 160, window=self.window, center=False, return_complex=True)
        power = spectrum.abs().square().clamp(1e-12).log().transpose(1, 2)[:, None]
        return self.rate(self.convolve(power.to(self.dtype)).amax((2, 3))).float()


def make_nets(sizes: Sizes, device: str, plan: Plan, *, tf32: bool) -> list[Net]:
    """Make the four networks in the precisions of a plan; with ``tf32`` those in float32 multiply in TF32."""
    torch.manual_seed(0)
    kinds = {"conformer": Conformer, "mms": Mms, "voxlingua": Ecapa, "dnsmos": Dnsmos}
    return [make(sizes, device, plan[name], tf32=tf32 and plan[name] is torch.float32) for name, make in kinds.items()]


def fill(network: nn.Module, device: str) -> nn.Module:
    """Allocate a network on the device, with random weights of the scale of an untrained network."""
    network = network.to_empty(device=device).eval().requires_grad_(requires_grad=False)
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        else:
            nn.init.constant_(weight, 0.0 if name.endswith("bias") else 1.0)
    return network


def gflop(duration_s: float) -> dict[str, float]:
    """Return the operations per model for one segment of this length at full size, in GFLOP (2 per multiply-add).

    MMS-LID needs 1 067 GFLOP for 10 s and 3 574 for 30 s. IndicConformer needs 163 and 506, with its output layer.
    ECAPA needs 37.3 for 10 s, and DNSMOS needs 38.8 per window.
    """
    d = duration_s
    windows = max(1, int(d * SAMPLE_RATE) // Sizes().dnsmos_samples)
    return {
        "mms": 100.5 * d + 0.623 * d * d,
        "conformer": 16.15 * d + 0.028 * d * d,
        "voxlingua": 3.73 * d,
        "dnsmos": 38.8 * windows,
    }


def _mean(hidden: Tensor, real: Tensor) -> Tensor:
    return (hidden * real).sum(2, keepdim=True) / real.sum(2, keepdim=True)


def _spread(hidden: Tensor, real: Tensor) -> Tensor:
    return _mean((hidden - _mean(hidden, real)).square(), real).clamp(1e-12).sqrt()

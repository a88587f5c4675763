"""Silero VAD in torch, for a whole batch at once: the CPU of a GPU box would be too slow.

ONNX Runtime computes one window after the other on the CPU, and needs 3.2 ms of one core per second of audio
(`docs/sizing.md`). To keep up with a fast GPU it would need a dozen cores.
"""

from collections.abc import Sequence
from typing import ClassVar

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from validation.domain import Answer, Column
from validation.hardware.device import Device, device_from_settings
from validation.hardware.streams import read_later
from validation.models.base import Answering, Batch, SegmentModel
from validation.models.silero import CONTEXT_SAMPLES, WINDOW_SAMPLES, SileroVad, make_answer
from validation.models.upload import upload
from validation.models.weights import find_weights

_PADDING, _HOP = 128, 128
"""The reflected samples on each side of a window, and the hop of the spectrum in samples."""
_STRIDES = (1, 2, 2, 1)
"""The strides of the encoder's convolutions."""
_ENCODER = "encoder.conv_layers."
"""The prefix of the names of the convolutions' weights in the ONNX graph."""
_GATES = (0, 2, 3, 1)
"""For each gate of torch's LSTM (input, forget, cell, output), its place among the gates of an LSTM in ONNX."""


class SileroNetwork(nn.Module):
    """The network of Silero VAD v6, which computes one probability of speech per window."""

    def __init__(self, graph: bytes) -> None:
        """Read the weights from the content of ``silero_vad_v6.onnx``.

        Raises:
            KeyError: the graph lacks a weight.
        """
        super().__init__()
        values = {
            tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
            for tensor in onnx.load_from_string(graph).graph.initializer
        }
        self.basis = nn.Parameter(values["encoder.feature_extractor.forward_basis_buffer"])
        self.convs = nn.ModuleList()
        for place, stride in enumerate(_STRIDES):
            weight, bias = (values[f"{_ENCODER}{place}.{kind}"] for kind in ("weight", "bias"))
            conv = nn.Conv1d(weight.shape[1], weight.shape[0], weight.shape[2], stride=stride, padding=1)
            conv.load_state_dict({"weight": weight, "bias": bias})
            self.convs.append(conv)
        inputs, states, biases = (values[f"onnx::LSTM_{number}"][0] for number in (209, 210, 211))
        self.recurrent = nn.LSTM(inputs.shape[1], states.shape[1], batch_first=True)
        self.recurrent.load_state_dict(
            {
                "weight_ih_l0": _order_gates(inputs),
                "weight_hh_l0": _order_gates(states),
                "bias_ih_l0": _order_gates(biases[: len(biases) // 2]),
                "bias_hh_l0": _order_gates(biases[len(biases) // 2 :]),
            }
        )
        self.out = nn.Linear(states.shape[1], 1)
        self.out.load_state_dict(
            {"weight": values["decoder.conv1d.weight"][:, :, 0], "bias": values["decoder.conv1d.bias"]}
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the (B, W) float32 probabilities of speech in the W windows of (B, T) audio, on its device.

        The last window is filled with zeros. A probability depends on no sample after its window, so padding changes
        no window of a segment.
        """
        count = -(-waveforms.shape[1] // WINDOW_SAMPLES)
        padded = functional.pad(waveforms, (CONTEXT_SAMPLES, count * WINDOW_SAMPLES - waveforms.shape[1]))
        windows = padded.unfold(1, CONTEXT_SAMPLES + WINDOW_SAMPLES, WINDOW_SAMPLES).flatten(0, 1)
        spectrum = functional.conv1d(
            functional.pad(windows, (_PADDING, _PADDING), mode="reflect")[:, None], self.basis, stride=_HOP
        )[:, :, 1:]
        real, imaginary = spectrum.chunk(2, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()
        for conv in self.convs:
            hidden = conv(hidden).relu()
        decoded, _ = self.recurrent(hidden[:, :, 0].reshape(len(waveforms), count, -1))
        probabilities: Tensor = self.out(decoded.relu())[:, :, 0].sigmoid()
        return probabilities


class SileroOnDevice:
    """Silero VAD v6 on a device. Its answers equal those of ``SileroVad`` up to rounding."""

    name: ClassVar[str] = SileroVad.name
    columns: ClassVar[tuple[Column, ...]] = SileroVad.columns
    languages: frozenset[str] | None = None

    def __init__(self, device: Device) -> None:
        weights = find_weights("silero-vad-v6")
        self.device, self.revision = device, f"{weights.revision}-torch"
        self._network = SileroNetwork(weights.read("silero_vad_v6.onnx")).eval().to(device)

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Measure the speech in each segment of a batch. Every segment of at least one sample has an answer."""
        return self.launch(batch)()

    @torch.inference_mode()
    def launch(self, batch: Batch) -> Answering:
        """Queue the network for a batch. The returned function waits for the probabilities and makes the answers."""
        read = read_later(self._network(upload(batch, self.device).waveforms))

        def answer() -> list[Answer]:
            (speech_p,) = read()
            rows = zip(speech_p, batch.lengths.tolist(), strict=True)
            return [make_answer(own[: -(-samples // WINDOW_SAMPLES)], samples) for own, samples in rows]

        return answer


def load_silero(*, threads: int) -> SegmentModel:
    """Load Silero VAD on the device of the settings: in torch on a GPU, and in ONNX Runtime on a CPU."""
    device = device_from_settings().device
    return SileroOnDevice(device) if device == "cuda" else SileroVad(threads=threads)


def _order_gates(weights: Tensor) -> Tensor:
    """Reorder LSTM weights, whose first dimension holds four gates in the order of ONNX, to torch's order."""
    return torch.cat([weights.chunk(4)[place] for place in _GATES])

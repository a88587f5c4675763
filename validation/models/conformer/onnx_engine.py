"""IndicConformer in ONNX Runtime, in single precision."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.models.conformer.graph import UnsupportedGraph, read_graph
from validation.models.conformer.mel import MELS, LogMel
from validation.models.conformer.onnx_patches import (
    BEST_COUNTS,
    BEST_SUMS,
    FRAMES,
    LANGUAGES,
    LENGTHS,
    LOG_PROBS,
    make_padding_exact,
    prune_head,
)
from validation.models.conformer.segment import EngineOutput
from validation.models.conformer.vocabulary import Vocabulary
from validation.models.onnx import create_onnx_session

FEATURES, ENCODED, ENCODED_LENGTHS = "audio_signal", "outputs", "encoded_lengths"
"""The encoder's first input and its outputs."""
_HEAD_INPUT = "encoder_output"
_PROBE_FRAMES = 101
"""One second of features."""


class OnnxEngine:
    """The published graphs with the patches of ``onnx_patches``, applied in memory.

    Features and the encoder's output stay on the device; only one language's log-probabilities per item leave it.
    """

    def __init__(
        self, assets: Path, vocabulary: Vocabulary, *, threads: int, device: Literal["cpu", "cuda"] = "cpu"
    ) -> None:
        """Load both graphs.

        Raises:
            UnsupportedGraph: a graph is not one that the patches fit.
            BadInput: a GPU is asked for, and ONNX Runtime would compute on the CPU.
        """
        self.name = "onnx-float32"
        self._device, self._mel = device, LogMel(device)
        encoder, head = read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx")
        subsampling = make_padding_exact(encoder.proto, encoder.file)
        prune_head(head.proto, vocabulary.columns)
        self._encoder, self._head = (
            create_onnx_session(graph.proto.SerializeToString(), threads=threads, device=device, weights=graph.weights)
            for graph in (encoder, head)
        )
        self._probe(encoder.file, subsampling)

    def run(self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch, as ``Engine`` documents."""
        features, counts = self._mel(
            torch.from_numpy(audio).to(self._device), torch.from_numpy(lengths).to(self._device)
        )
        encoded, frames = self._encode(features.contiguous(), counts)
        head = self._head.io_binding()
        head.bind_ortvalue_input(_HEAD_INPUT, encoded)
        head.bind_ortvalue_input(FRAMES, frames)
        head.bind_cpu_input(LANGUAGES, languages)
        for output in (LOG_PROBS, BEST_SUMS, BEST_COUNTS):
            head.bind_output(output, "cpu")
        self._head.run_with_iobinding(head)
        log_probs, sums, counted = (value.numpy() for value in head.get_outputs())
        return EngineOutput(log_probs, frames.numpy(), sums, counted)

    def _encode(self, features: Tensor, counts: Tensor) -> tuple[Any, Any]:
        """Run the encoder on the device of the features; its output stays there."""
        binding = self._encoder.io_binding()
        for name, tensor, dtype in ((FEATURES, features, np.float32), (LENGTHS, counts, np.int64)):
            binding.bind_input(name, self._device, 0, dtype, list(tensor.shape), tensor.data_ptr())
        for output in (ENCODED, ENCODED_LENGTHS):
            binding.bind_output(output, self._device)
        if self._device == "cuda":
            torch.cuda.synchronize()  # torch computes the features on a stream of its own
        self._encoder.run_with_iobinding(binding)
        encoded, lengths = binding.get_outputs()
        return encoded, lengths

    def _probe(self, file: str, subsampling: int) -> None:
        """Run the encoder once and check its frame count: one frame off, and every transcript looks wrong."""
        features = torch.zeros(1, MELS, _PROBE_FRAMES, device=self._device)
        encoded, lengths = self._encode(features, torch.tensor([_PROBE_FRAMES], device=self._device))
        expected, found = (_PROBE_FRAMES - 1) // subsampling + 1, int(lengths.numpy()[0])
        if not expected == found == encoded.shape()[2]:
            raise UnsupportedGraph(file, f"it turns {_PROBE_FRAMES} frames into {found}, not {expected}")

"""IndicConformer in torch: the same weights in a precision of choice, beside the other networks on one card."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.models.card_memory import report_overrun
from validation.models.conformer.engine import Heard
from validation.models.conformer.graph import read_graph
from validation.models.conformer.mapping import build_network
from validation.models.conformer.mel import LogMel
from validation.models.conformer.network import own_frames
from validation.models.conformer.vocabulary import BLANK, Vocabulary
from validation.models.placement import Placement


class TorchEngine:
    """The published weights in modules of ours.

    In half precision the network is half; features, norms' moments and all log-probabilities are single.
    """

    def __init__(self, assets: Path, vocabulary: Vocabulary, placement: Placement) -> None:
        """Load the weights.

        Raises:
            GraphRefused: they do not make up the network that is known here.
        """
        self.name = f"torch-{placement.precision}"
        self._placement, self._mel = placement, LogMel(placement.device)
        network = build_network(read_graph(assets / "encoder.onnx"), read_graph(assets / "ctc_decoder.onnx"))
        self._network = network.to(placement.device, placement.dtype)
        self._columns = torch.from_numpy(vocabulary.columns).to(placement.device)

    @torch.inference_mode()
    def hear(self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]) -> Heard:
        """Listen to a batch, as ``Engine`` promises."""
        with report_overrun():
            device = self._placement.device
            features, counts = self._mel(torch.from_numpy(audio).to(device), torch.from_numpy(lengths).to(device))
            logits, frames = self._network(features.to(self._placement.dtype), counts)
            columns = self._columns[torch.from_numpy(languages).to(device)]
            own = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1)).float().log_softmax(dim=2)
            sums, tokens = self._score_languages(logits, frames)
            return Heard(own.cpu().numpy(), frames.cpu().numpy(), sums.cpu().numpy(), tokens.cpu().numpy())

    def _score_languages(self, logits: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the log-probabilities of the tokens that each language would write, one language at a time."""
        real = own_frames(frames, logits.shape[1])
        scores = [sum_written(logits[:, :, columns].float().log_softmax(dim=2), real) for columns in self._columns]
        sums, counts = zip(*scores, strict=True)
        return torch.stack(sums, dim=1), torch.stack(counts, dim=1)


def sum_written(log_probs: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the log-probabilities of the tokens of the greedy text, (B,), and count them, (B,)."""
    best_lp, best = log_probs.max(dim=2)
    repeated = torch.zeros_like(real)
    repeated[:, 1:] = best[:, 1:] == best[:, :-1]
    written = (real & ~repeated & (best != BLANK)).float()
    return (best_lp * written).sum(dim=1), written.sum(dim=1)

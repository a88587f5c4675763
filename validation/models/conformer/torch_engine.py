"""IndicConformer in torch, in any precision: the engine."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.models.conformer.mel import LogMel
from validation.models.conformer.network import FastConformer, length_mask
from validation.models.conformer.segment import EngineOutput
from validation.models.conformer.vocabulary import BLANK


class TorchEngine:
    """The published weights in the torch network of this package.

    In half precision the network is half; features, the moments of norms and all log-probabilities are single.
    """

    def __init__(
        self, network: FastConformer, columns: NDArray[np.int64], *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take over a network.

        Args:
            network: the network with its weights.
            columns: (L, 257) the head's columns of each language, the blank's last.
            device: where to compute.
            dtype: of the network.
        """
        self.name = f"torch-{str(dtype).removeprefix('torch.')}"
        self._device, self._dtype, self._mel = device, dtype, LogMel(device)
        self._network = network.to(device, dtype)
        self._columns = torch.from_numpy(columns).to(device)

    @torch.inference_mode()
    def run(self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch, as ``Engine`` documents."""
        waveforms, samples, language = (
            torch.from_numpy(array).to(self._device) for array in (audio, lengths, languages)
        )
        features, counts = self._mel(waveforms, samples)
        logits, frames = self._network(features.to(self._dtype), counts)
        columns = self._columns[language]
        own = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1)).float().log_softmax(dim=2)
        sums, tokens = self._score_languages(logits, frames)
        return EngineOutput(own.cpu().numpy(), frames.cpu().numpy(), sums.cpu().numpy(), tokens.cpu().numpy())

    def _score_languages(self, logits: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the log-probabilities of the tokens of each language's greedy text, one language at a time."""
        mask = length_mask(frames, logits.shape[1])
        scores = [
            sum_greedy_tokens(logits[:, :, columns].float().log_softmax(dim=2), mask) for columns in self._columns
        ]
        sums, counts = zip(*scores, strict=True)
        return torch.stack(sums, dim=1), torch.stack(counts, dim=1)


def sum_greedy_tokens(log_probs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the log-probabilities of the greedy text's tokens, (B,), and count the tokens, (B,)."""
    best_lp, best = log_probs.max(dim=2)
    repeated = torch.zeros_like(mask)
    repeated[:, 1:] = best[:, 1:] == best[:, :-1]
    counted = (mask & ~repeated & (best != BLANK)).float()
    return (best_lp * counted).sum(dim=1), counted.sum(dim=1)

"""IndicConformer in torch: the same weights in a precision of choice, beside the other networks on one card."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.models.conformer.engine import EngineOutput
from validation.models.conformer.mel import LogMel
from validation.models.conformer.network import FastConformer, length_mask
from validation.models.conformer.vocabulary import BLANK


class TorchEngine:
    """The published weights in modules of ours.

    In half precision the network is half; features, norms' moments and all log-probabilities are single.
    """

    def __init__(
        self, network: FastConformer, columns: NDArray[np.int64], *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Take a network over.

        Args:
            network: with its weights.
            columns: (L, 257) the head's columns of each language, the blank's last.
            device: where to compute.
            dtype: of the network.
        """
        self.name = f"torch-{str(dtype).removeprefix('torch.')}"
        self._device, self._dtype, self._mel = device, dtype, LogMel(device)
        self._network = network.to(device, dtype)
        self._columns = torch.from_numpy(columns).to(device)

    @torch.inference_mode()
    def hear(
        self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]
    ) -> EngineOutput:
        """Listen to a batch, as ``Engine`` promises."""
        waveforms, samples, spoken = (torch.from_numpy(given).to(self._device) for given in (audio, lengths, languages))
        features, counts = self._mel(waveforms, samples)
        logits, frames = self._network(features.to(self._dtype), counts)
        columns = self._columns[spoken]
        own = logits.gather(2, columns[:, None].expand(-1, logits.shape[1], -1)).float().log_softmax(dim=2)
        sums, tokens = self._score_languages(logits, frames)
        return EngineOutput(own.cpu().numpy(), frames.cpu().numpy(), sums.cpu().numpy(), tokens.cpu().numpy())

    def _score_languages(self, logits: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the log-probabilities of the tokens that each language would write, one language at a time."""
        real = length_mask(frames, logits.shape[1])
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

"""What computes IndicConformer: audio in, log-probabilities out, whatever runs the network."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """What the network makes of a batch."""

    log_probs: NDArray[np.float32]
    """(B, T, 257) log-probabilities of the pieces of each item's language, the blank last."""
    frames: NDArray[np.int64]
    """(B,) frames of each item; what stands beyond them in ``log_probs`` means nothing."""
    best_sums: NDArray[np.float32]
    """(B, L) for each language, the sum of the log-probabilities of the tokens that it would write (greedily, among
    its own pieces)."""
    best_counts: NDArray[np.float32]
    """(B, L) the number of those tokens."""


class Engine(Protocol):
    """Runs the network. Padding moves no log-probability of an item's own frames by more than rounding does."""

    name: str
    """What computes, and how finely: part of the model's revision."""

    def hear(
        self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]
    ) -> EngineOutput:
        """Listen to a batch.

        Args:
            audio: (B, T) float32, zero-padded on the right.
            lengths: (B,) int64 samples, each at least ``SHORTEST_SAMPLES``.
            languages: (B,) int64, each item's language as an index into the vocabulary's.
        """
        ...

"""Memory that a card reads without the processor's help."""

import sys

import numpy as np
from numpy.typing import NDArray


def pinned_memory(shape: tuple[int, int], dtype: type[np.float32]) -> NDArray[np.float32]:
    """Make an array, whatever it holds: page-locked where torch is loaded and sees a card, ordinary elsewhere.

    Torch keeps what was freed and hands it out again, so only the first few batches pay for the locking.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return np.empty(shape, dtype)
    pinned: NDArray[np.float32] = torch.empty(shape, dtype=torch.float32, pin_memory=True).numpy()
    return pinned

"""Convolutions of an ECAPA-TDNN that end where each utterance ends, not where the batch does."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from validation.errors import BadInput


class FrameCounts:
    """How many frames of each item are real; set before every call of the network that shares it."""

    def __init__(self) -> None:
        self.of_items = torch.zeros(0, dtype=torch.int64)


class ReflectingConv1d(nn.Module):
    """A speechbrain ``Conv1d`` (``same``, ``reflect``) whose right reflection starts at each item's own last frame.

    The library reflects at the end of the batch, so a shorter item hears the padding after it (cosine distances of
    0.02 to 0.9 to its own embedding). Here ``x[n-1-j]`` is written to place ``n-1+j`` for ``j = 1..p``, as the
    reflection of the item alone would have it. What lies further right is never seen by a real frame.
    """

    def __init__(self, conv: nn.Module, reach: int, counts: FrameCounts) -> None:
        super().__init__()
        self._conv, self._reach, self._counts = conv, reach, counts

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, T) -> (B, C', T)."""
        reach, last = self._reach, self._counts.of_items[:, None] - 1
        padded = functional.pad(x, (reach, reach))
        padded[:, :, :reach] = x[:, :, 1 : reach + 1].flip(-1)
        step = torch.arange(1, reach + 1, device=x.device)
        source, target = (last - step)[:, None, :], (last + step + reach)[:, None, :]
        mirrored = x.gather(2, source.expand(-1, x.shape[1], -1))
        padded.scatter_(2, target.expand(-1, x.shape[1], -1), mirrored)
        result: Tensor = self._conv(padded)
        return result


def reflect_pad_per_item(network: nn.Module, counts: FrameCounts) -> int:
    """Replace every convolution of a network that sees more than one frame.

    Returns:
        The furthest that one of them sees to a side, in frames: items need one frame more.

    Raises:
        BadInput: a convolution pads in another way, so it is no ECAPA-TDNN as speechbrain has it.
    """
    from speechbrain.nnet.CNN import Conv1d  # noqa: PLC0415 - torchaudio must have been allowed first

    furthest = 0
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Conv1d) and child.kernel_size > 1:
                reach = _reach_of(child)
                setattr(parent, name, ReflectingConv1d(child.conv, reach, counts))
                furthest = max(furthest, reach)
    return furthest


def _reach_of(conv: Any) -> int:
    padding = (conv.padding, conv.padding_mode, conv.stride, conv.skip_transpose)
    if padding != ("same", "reflect", 1, True):
        raise BadInput(f"a convolution of the embedding model pads as {padding}, an ECAPA-TDNN's does not")
    return int((conv.kernel_size - 1) * conv.dilation // 2)

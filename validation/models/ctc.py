"""Score given texts by CTC in batches: the log-probability over all alignments, and the likeliest alignment.

The states of a text are those of CTC (Graves et al. 2006): a blank, then each token followed by a blank. From one frame
to the next a path stays in its state or moves on by one state. It moves on by two states to skip a blank between
different tokens.

Tensors are on the device of the log-probabilities, except where a docstring names the host. Sums have the precision of
the log-probabilities: in single precision the sum over 125 frames is exact to 1e-3 nats. Each frame needs a few small
operations on all items at once, so one thread is fastest on a CPU: see ``one_thread``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WILDCARD = -1
"""A token that matches the likeliest symbol of each frame. It replaces characters that a vocabulary lacks. Unlike a
wildcard of probability one, it cannot make a text likelier than the recognised text."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The likeliest alignment of one text."""

    log_p: float
    """The log-probability of the alignment, in nats."""
    token_lp: NDArray[np.float64]
    """(U,) mean log-probability of each of the U tokens over the frames that are aligned to the token."""
    frame_lp: NDArray[np.float64]
    """(T,) log-probability of the symbol that the alignment emits in each frame."""
    first_frame: int
    """The index of the first frame of the first token; the number of frames for an empty text."""
    last_frame: int
    """The index of the last frame of the last token; -1 for an empty text."""


def sum_paths(log_probs: Tensor, frames: Tensor, texts: Sequence[Sequence[int]], *, blank: int) -> Tensor:
    """Sum the probabilities of all alignments of each text.

    Args:
        log_probs: (B, T, V) float log-probabilities.
        frames: (B,) int64 numbers of frames without padding, ``1 <= frames[i] <= T``, on the host.
        texts: B lists of token ids or ``WILDCARD``; a list may be empty.
        blank: the id of the blank.

    Returns:
        (B,) log-probabilities; minus infinity for a text without an alignment.
    """
    wild, counts = log_probs.shape[2], torch.tensor([len(text) for text in texts], device="cpu")
    with_wild = torch.cat([log_probs, log_probs.amax(dim=2, keepdim=True)], dim=2)
    targets = _int_tensor([wild if token == WILDCARD else token for text in texts for token in text], log_probs)
    return -functional.ctc_loss(with_wild.transpose(0, 1), targets, frames, counts, blank=blank, reduction="none")


def find_paths(
    log_probs: Tensor, frames: Tensor, texts: Sequence[Sequence[int]], *, blank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the likeliest alignment of each text (Viterbi). ``sum_paths`` documents the arguments.

    Every text must have an alignment: see ``has_alignment``.

    Returns:
        (B,) log-probability of the alignment, (B, T) int32 state in each frame, and (B, T) log-probability of the
        symbol that the alignment emits in each frame. After a copy to the host ``make_alignments`` turns them into
        alignments.
    """
    lattice = _build_lattice(log_probs, frames.to(log_probs.device, non_blocking=True), texts, blank)
    reached, steps = _advance(lattice)
    log_p, back = _end_log_probs(reached, lattice.last).max(dim=0)
    states = _trace_back(lattice.is_frame, steps, lattice.last - back)
    emitted = lattice.emissions.gather(2, states[:, :, None])[:, :, 0]
    return log_p, states.T.int(), emitted.T


def make_alignments(
    log_p: NDArray[np.floating],
    states: NDArray[np.integer],
    emitted: NDArray[np.floating],
    frames: Sequence[int],
    texts: Sequence[Sequence[int]],
) -> list[Alignment]:
    """Make an ``Alignment`` of each text from the three results of ``find_paths``, copied to the host.

    ``frames`` and ``texts`` are those that ``find_paths`` got.
    """
    rows = zip(log_p.tolist(), states, emitted, frames, texts, strict=True)
    return [
        _make_alignment(p, path[:count], emissions[:count].astype(np.float64), len(text))
        for p, path, emissions, count, text in rows
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one CPU thread inside this context.

    On small operations several threads wait for each other longer than they compute.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_alignment(text: Sequence[int], frames: int) -> bool:
    """Return whether a text has an alignment with ``frames`` frames.

    An alignment needs one frame per token, and one more for the blank between two equal neighbours.
    """
    repeats = sum(left == right for left, right in pairwise(text))
    return len(text) + repeats <= frames


def collapse(symbols: NDArray[np.int64], *, blank: int) -> tuple[int, ...]:
    """Convert (T,) symbols, one per frame, to tokens: merge repeated symbols, then remove blanks."""
    changed = np.concatenate([[True], symbols[1:] != symbols[:-1]])
    return tuple(map(int, symbols[changed & (symbols != blank)]))


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The CTC lattices of B texts, padded to S states and T frames."""

    emissions: Tensor
    """(T, B, S) log-probability of each state's symbol in each frame.

    A ``WILDCARD`` state has the log-probability of the frame's likeliest symbol.
    """
    skip_lp: Tensor
    """(B, S): 0 for a state that a path may enter from the state two before it, else minus infinity."""
    is_frame: Tensor
    """(T, B) bool: True for a frame of the text's audio, False for padding."""
    last: Tensor
    """(B,) index of each text's last state, which is the blank after the last token."""


def _build_lattice(log_probs: Tensor, frames: Tensor, texts: Sequence[Sequence[int]], blank: int) -> _Lattice:
    """Build the lattices of B texts. ``sum_paths`` documents the arguments, but ``frames`` is on the device here."""
    states = np.full((len(texts), 2 * max(map(len, texts)) + 1), blank)
    for row, text in zip(states, texts, strict=True):
        row[1 : 2 * len(text) : 2] = text
    symbols, by_frame = torch.from_numpy(states).to(log_probs.device, non_blocking=True), log_probs.transpose(0, 1)
    wild = symbols == WILDCARD
    places = symbols.masked_fill(wild, blank).expand(len(by_frame), -1, -1)
    emissions = torch.where(wild, by_frame.amax(dim=2, keepdim=True), by_frame.gather(2, places))
    skip_lp = torch.full_like(symbols, -inf, dtype=log_probs.dtype)
    may_skip = (symbols[:, 2:] != blank) & (symbols[:, 2:] != symbols[:, :-2])
    skip_lp[:, 2:].masked_fill_(may_skip, 0.0)
    is_frame = torch.arange(len(by_frame), device=frames.device)[:, None] < frames
    return _Lattice(emissions, skip_lp, is_frame, _int_tensor([2 * len(text) for text in texts], log_probs))


def _advance(lattice: _Lattice) -> tuple[Tensor, Tensor]:
    """Compute the likeliest path to each state, frame by frame (the forward pass of Viterbi).

    Returns:
        (B, S) log-probability of the likeliest path to each state in the item's last frame, and (T, B, S) uint8 number
        of states, 0 to 2, by which the likeliest path to a state moved on in that frame.
    """
    emissions = lattice.emissions
    steps = torch.zeros_like(emissions, dtype=torch.uint8)
    reached = torch.full_like(lattice.skip_lp, -inf)
    reached[:, :2] = emissions[0, :, :2]  # begin in the first blank or in the first token
    edge = reached.new_full((len(reached), 2), -inf)
    for frame in range(1, len(emissions)):
        before = torch.cat([edge, reached], dim=1)
        one, two = before[:, 1:-1], before[:, :-2] + lattice.skip_lp
        best = torch.maximum(reached, one)
        steps[frame] = (one > reached).to(torch.uint8).masked_fill_(two > best, 2)
        arrived = torch.maximum(best, two) + emissions[frame]
        reached = torch.where(lattice.is_frame[frame, :, None], arrived, reached)
    return reached, steps


def _end_log_probs(reached: Tensor, last: Tensor) -> Tensor:
    """Return (2, B) log-probabilities: of the path that ends in the last blank, and of that in the last token.

    An empty text has no last token: its second log-probability is minus infinity.
    """
    in_blank = reached.gather(1, last[:, None])[:, 0]
    in_token = reached.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0]
    return torch.stack([in_blank, in_token.masked_fill(last == 0, -inf)])


def _trace_back(is_frame: Tensor, steps: Tensor, state: Tensor) -> Tensor:
    """Follow the steps back from each item's end state; return the (T, B) states in all frames, padding included."""
    states = torch.empty_like(is_frame, dtype=torch.int64)
    for frame in reversed(range(len(steps))):
        states[frame] = state
        taken = steps[frame].gather(1, state[:, None])[:, 0]
        state = torch.where(is_frame[frame], state - taken, state)
    return states


def _int_tensor(numbers: Sequence[int], like: Tensor) -> Tensor:
    """Make an int64 tensor on the device of ``like``."""
    return torch.tensor(numbers, dtype=torch.int64, device=like.device)


def _make_alignment(log_p: float, path: NDArray[np.integer], emitted: NDArray[np.float64], tokens: int) -> Alignment:
    """Make the alignment of a text of ``tokens`` tokens from the state and the log-probability of each frame."""
    in_token = path % 2 == 1
    of_token = path[in_token] // 2
    sums = np.bincount(of_token, weights=emitted[in_token], minlength=tokens)
    own = np.flatnonzero(in_token)
    first, last = (int(own[0]), int(own[-1])) if len(own) else (len(path), -1)
    return Alignment(log_p, sums / np.bincount(of_token, minlength=tokens), emitted, first, last)

"""What a CTC model says of given texts: their probability over all alignments, and the best alignment. Batched.

A text is laid out as the states of CTC (Graves et al. 2006): a blank, then each token followed by a blank. At each
frame one stays, goes on by one state, or by two past a blank between different tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

WILDCARD = -1
"""A token that is whatever the frame makes likeliest: for what a vocabulary cannot spell. Unlike a wildcard of
probability one it never makes a text likelier than what was heard."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The likeliest alignment of one text."""

    log_p: float
    token_lp: NDArray[np.float64]
    """(U,) mean log-probability of each token over its own frames."""


def score_texts(log_probs: Tensor, frames: Tensor, texts: Sequence[Sequence[int]], *, blank: int) -> list[float]:
    """Sum the probabilities of all alignments of each text.

    Args:
        log_probs: (B, T, V) float log-probabilities.
        frames: (B,) int64 true numbers of frames, ``1 <= frames[i] <= T``.
        texts: B lists of ids or ``WILDCARD``, perhaps empty.
        blank: the blank's id.

    Returns:
        B log-probabilities, summed in double precision; minus infinity for a text without an alignment.
    """
    wild, counts = log_probs.shape[2], torch.tensor([len(text) for text in texts])
    with_wild = torch.cat([log_probs, log_probs.amax(dim=2, keepdim=True)], dim=2).double()
    targets = torch.tensor([wild if token == WILDCARD else token for text in texts for token in text])
    losses = functional.ctc_loss(
        with_wild.transpose(0, 1), targets.long(), frames, counts, blank=blank, reduction="none"
    )
    return (-losses).tolist()


def align_texts(log_probs: Tensor, frames: Tensor, texts: Sequence[Sequence[int]], *, blank: int) -> list[Alignment]:
    """Find the likeliest alignment of each text (Viterbi). Arguments as ``score_texts``.

    Every text must have an alignment: see ``is_feasible``.
    """
    lattice = _lay_out(log_probs, texts, blank)
    reached = _start(lattice)
    steps = torch.zeros(lattice.emissions.shape, dtype=torch.uint8)
    for frame in range(1, log_probs.shape[1]):
        best, step = _arrive(reached, lattice.may_skip).max(dim=0)
        steps[:, frame] = step.to(torch.uint8)
        alive = frame < frames[:, None]
        reached = torch.where(alive, best + lattice.emissions[:, frame], reached)
    log_p, back = _end(reached, lattice.last).max(dim=0)
    states = _trace_back(frames, steps, lattice.last - back)
    own = lattice.emissions.gather(2, states[:, :, None])[:, :, 0]
    rows = zip(log_p.tolist(), states.numpy(), own.double().numpy(), frames, texts, strict=True)
    return [_describe(p, path[:count], emitted[:count], len(text)) for p, path, emitted, count, text in rows]


def is_feasible(text: Sequence[int], frames: int) -> bool:
    """Say whether a text has an alignment: a frame for each token, and one between equal neighbours."""
    repeats = sum(left == right for left, right in pairwise(text))
    return len(text) + repeats <= frames


def collapse(symbols: NDArray[np.int64], *, blank: int) -> tuple[int, ...]:
    """Read the tokens out of one symbol a frame: repeats are one, blanks none."""
    changed = np.concatenate([[True], symbols[1:] != symbols[:-1]])
    return tuple(map(int, symbols[changed & (symbols != blank)]))


@dataclass(frozen=True, slots=True)
class _Lattice:
    """Texts laid out as states, against the frames of their audio."""

    emissions: Tensor
    """(B, T, S) log-probability of each state's symbol in each frame."""
    may_skip: Tensor
    """(B, S) whether a state may follow the one before the last."""
    last: Tensor
    """(B,) each item's last state, the blank after its last token."""


def _lay_out(log_probs: Tensor, texts: Sequence[Sequence[int]], blank: int) -> _Lattice:
    counts = torch.tensor([len(text) for text in texts])
    symbols = torch.full((len(texts), 2 * int(counts.max()) + 1), blank)
    for row, text in zip(symbols, texts, strict=True):
        row[1 : 2 * len(text) : 2] = torch.tensor(text, dtype=torch.int64)
    wild = symbols == WILDCARD
    places = symbols.masked_fill(wild, blank)[:, None].expand(-1, log_probs.shape[1], -1)
    emissions = torch.where(wild[:, None], log_probs.amax(dim=2, keepdim=True), log_probs.gather(2, places))
    may_skip = torch.zeros_like(wild)
    may_skip[:, 2:] = (symbols[:, 2:] != blank) & (symbols[:, 2:] != symbols[:, :-2])
    return _Lattice(emissions, may_skip, 2 * counts)


def _start(lattice: _Lattice) -> Tensor:
    """Begin in the first blank or in the first token."""
    reached = torch.full(lattice.may_skip.shape, -inf, dtype=torch.float64)
    reached[:, :2] = lattice.emissions[:, 0, :2]
    return reached


def _arrive(reached: Tensor, may_skip: Tensor) -> Tensor:
    """Come from the same state, the one before, or the one before that: (3, B, S)."""
    one, two = (reached.roll(step, dims=1) for step in (1, 2))
    one[:, :1] = -inf
    return torch.stack([reached, one, two.masked_fill(~may_skip, -inf)])


def _end(reached: Tensor, last: Tensor) -> Tensor:
    """End in the last blank or in the last token: (2, B)."""
    in_blank = reached.gather(1, last[:, None])[:, 0]
    in_token = reached.gather(1, (last - 1).clamp(min=0)[:, None])[:, 0]
    return torch.stack([in_blank, in_token.masked_fill(last == 0, -inf)])


def _trace_back(frames: Tensor, steps: Tensor, state: Tensor) -> Tensor:
    """Follow the steps back from each item's end: (B, T) its state in each frame, and in frames beyond its last."""
    states = torch.empty(steps.shape[:2], dtype=torch.int64)
    for frame in reversed(range(steps.shape[1])):
        states[:, frame] = state
        taken = steps[:, frame].gather(1, state[:, None])[:, 0].long()
        state = torch.where(frame < frames, state - taken, state)
    return states


def _describe(log_p: float, path: NDArray[np.int64], emitted: NDArray[np.float64], tokens: int) -> Alignment:
    in_token = path % 2 == 1
    of_token = path[in_token] // 2
    sums = np.bincount(of_token, weights=emitted[in_token], minlength=tokens)
    return Alignment(log_p, sums / np.bincount(of_token, minlength=tokens))

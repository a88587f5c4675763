"""Which utterances travel together: longest first, within a budget of padded seconds. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Seconds, Utterance
from validation.models.base import Batch

Allocate: TypeAlias = Callable[[tuple[int, int], type[np.float32]], NDArray[np.float32]]

ATTENTION_QUADRATIC_S = 161.0
"""Seconds at which attention costs as much as all the rest of a large speech encoder: MMS-LID's 100.5 d + 0.623 d^2
GFLOP for d seconds."""


@dataclass(frozen=True, slots=True)
class PaddingStats:
    """How well batches are filled, in seconds of audio."""

    real_s: Seconds = 0.0
    padded_s: Seconds = 0.0

    def __add__(self, other: "PaddingStats") -> "PaddingStats":
        return PaddingStats(self.real_s + other.real_s, self.padded_s + other.padded_s)


def cost_s(duration_s: Seconds) -> Seconds:
    """What an item of this padded length costs: its seconds, and attention's quadratic part as further seconds."""
    return duration_s + duration_s**2 / ATTENTION_QUADRATIC_S


def plan_batches(durations_s: Sequence[Seconds], budget_s: Seconds, *, min_padded_s: Seconds = 0.0) -> list[list[int]]:
    """Group items into batches of similar length.

    Longest first, so that the greatest need of memory shows at once. A batch holds as many items as the budget
    takes at the cost of its longest; an item that exceeds the budget alone travels alone.

    Args:
        durations_s: one length an item.
        budget_s: the greatest ``len(batch) * cost_s(longest of batch)``.
        min_padded_s: what the shortest item is padded to by the models themselves; it costs as much.

    Returns:
        Indices into ``durations_s``, each exactly once. Equal lengths keep their order.
    """
    longest_first = sorted(range(len(durations_s)), key=lambda item: -durations_s[item])
    batches, start = [], 0
    while start < len(longest_first):
        room = max_batch_size(durations_s[longest_first[start]], budget_s, min_padded_s=min_padded_s)
        batches.append(longest_first[start : start + room])
        start += room
    return batches


def max_batch_size(longest_s: Seconds, budget_s: Seconds, *, min_padded_s: Seconds = 0.0) -> int:
    """How many items travel with one of this length that is their longest, itself included; at least one."""
    return max(1, int(budget_s // cost_s(max(longest_s, min_padded_s))))


def batch_cost_s(batch: Batch, *, min_padded_s: Seconds = 0.0) -> Seconds:
    """What a batch counts against a budget."""
    return len(batch) * cost_s(max(batch.waveforms.shape[1] / SAMPLE_RATE, min_padded_s))


def measure_fill(durations_s: Sequence[Seconds]) -> PaddingStats:
    """Measure one batch: what of it is audio, and what is audio or padding."""
    return PaddingStats(sum(durations_s), len(durations_s) * max(durations_s, default=0.0))


def pad_batch(utterances: Sequence[Utterance], *, allocate: Allocate = np.empty) -> Batch:
    """Lay utterances out as one batch, zero-padded on the right to the longest.

    Args:
        utterances: what travels.
        allocate: makes the array of waveforms, whatever it holds at first; ``pinned_memory`` where a card reads it.
    """
    lengths = np.array([len(utterance.audio) for utterance in utterances], dtype=np.int64)
    waveforms = allocate((len(utterances), int(lengths.max(initial=0))), np.float32)
    for row, utterance in zip(waveforms, utterances, strict=True):
        row[: len(utterance.audio)] = utterance.audio
        row[len(utterance.audio) :] = 0.0
    texts, languages = [u.text for u in utterances], [u.language for u in utterances]
    return Batch(waveforms, lengths, texts, languages, wanted=[u.wanted for u in utterances])


def take_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """Make a batch of some rows of another, in its order, padded no further than they need."""
    if len(rows) == len(batch):
        return batch
    lengths = batch.lengths[rows]
    waveforms = batch.waveforms[rows, : int(lengths.max(initial=0))]
    texts, languages = [batch.texts[row] for row in rows], [batch.languages[row] for row in rows]
    return Batch(waveforms, lengths, texts, languages, wanted=[batch.wanted[row] for row in rows])


def true_audio_s(batch: Batch) -> Seconds:
    """Seconds of audio in a batch, without padding."""
    return float(batch.lengths.sum()) / SAMPLE_RATE

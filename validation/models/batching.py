"""Which utterances travel together: longest first, within a budget of padded seconds. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validation.domain import SAMPLE_RATE, Seconds, Utterance
from validation.models.base import Batch

QUADRATIC_S = 161.0
"""Seconds at which attention costs as much as all the rest of a large speech encoder: MMS-LID's 100.5 d + 0.623 d^2
GFLOP for d seconds."""


@dataclass(frozen=True, slots=True)
class Fill:
    """How well batches are filled, in seconds of audio."""

    real_s: Seconds = 0.0
    padded_s: Seconds = 0.0

    def __add__(self, other: "Fill") -> "Fill":
        return Fill(self.real_s + other.real_s, self.padded_s + other.padded_s)


def cost_s(duration_s: Seconds) -> Seconds:
    """What an item of this padded length costs: its seconds, and attention's quadratic part as further seconds."""
    return duration_s + duration_s**2 / QUADRATIC_S


def plan_batches(durations_s: Sequence[Seconds], budget_s: Seconds, *, least_s: Seconds = 0.0) -> list[list[int]]:
    """Group items into batches of similar length.

    Longest first, so that the greatest need of memory shows at once. A batch holds as many items as the budget
    takes at the cost of its longest; an item that exceeds the budget alone travels alone.

    Args:
        durations_s: one length an item.
        budget_s: the greatest ``len(batch) * cost_s(longest of batch)``.
        least_s: what the shortest item is padded to by the models themselves; it costs as much.

    Returns:
        Indices into ``durations_s``, each exactly once. Equal lengths keep their order.
    """
    longest_first = sorted(range(len(durations_s)), key=lambda item: -durations_s[item])
    batches, start = [], 0
    while start < len(longest_first):
        longest_s = max(durations_s[longest_first[start]], least_s)
        room = max(1, int(budget_s // cost_s(longest_s)))
        batches.append(longest_first[start : start + room])
        start += room
    return batches


def measure_fill(durations_s: Sequence[Seconds]) -> Fill:
    """Measure one batch: what of it is audio, and what is audio or padding."""
    return Fill(sum(durations_s), len(durations_s) * max(durations_s, default=0.0))


def pad_batch(utterances: Sequence[Utterance]) -> Batch:
    """Lay utterances out as one batch, zero-padded on the right to the longest."""
    lengths = np.array([len(utterance.audio) for utterance in utterances], dtype=np.int64)
    waveforms = np.zeros((len(utterances), int(lengths.max(initial=0))), dtype=np.float32)
    for row, utterance in zip(waveforms, utterances, strict=True):
        row[: len(utterance.audio)] = utterance.audio
    return Batch(waveforms, lengths, [u.text for u in utterances], [u.language for u in utterances])


def take_rows(batch: Batch, start: int, stop: int) -> Batch:
    """Make a batch of some rows of another, padded no further than they need."""
    lengths = batch.lengths[start:stop]
    waveforms = batch.waveforms[start:stop, : int(lengths.max(initial=0))]
    return Batch(waveforms, lengths, batch.texts[start:stop], batch.languages[start:stop])


def true_audio_s(batch: Batch) -> Seconds:
    """Seconds of audio in a batch, without padding."""
    return float(batch.lengths.sum()) / SAMPLE_RATE

"""What models that tell languages apart have in common: their labels, their columns, and how a batch is put to them."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Answer, Column, Fault, Scored, Seconds, Unscored
from validation.models.base import Batch
from validation.models.languages import canonical

LONGEST_S: Seconds = 60.0
"""A longer segment is heard in pieces: attention costs by the square of what it hears at once."""

LID_COLUMNS = (
    Column("language", "str", "ISO 639", "The likeliest of all languages that it knows, by the audio alone."),
    Column("language_p", "float", "probability", "Its probability."),
    Column("declared_p", "float", "probability", "The declared language's; null if the model has no such language."),
)
Listen: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float64]]
"""From waveforms (B, T) and lengths (B,) to the probability of each label (B, L)."""


class LanguageLabels:
    """A classifier's labels, under the codes that all signals use.

    Several labels may name one language (``swa`` and ``swh``): its probability is their sum. A label that no table
    knows keeps its own spelling, so that hearing it still counts against the declared language.

    Probabilities are those of all labels, never renormalised over some: a model that hears English behind a Hindi
    label shall say so.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """Take labels in the order of the classifier's outputs: ``hin``, ``hi`` or ``hi: Hindi``."""
        names = [name_language(label) for label in labels]
        self.codes = tuple(dict.fromkeys(names))
        self._code_of_label = np.array([self.codes.index(name) for name in names])

    def fold(self, of_labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the probabilities of labels that name one language, (L,) -> (C,)."""
        of_codes = np.zeros(len(self.codes))
        np.add.at(of_codes, self._code_of_label, of_labels)
        return of_codes

    def describe(self, of_labels: NDArray[np.float64], declared: str | None) -> Scored:
        """Say what was heard, and how likely the declared language is; of one it does not know, nothing."""
        of_codes = self.fold(of_labels)
        likeliest = int(of_codes.argmax())
        code = canonical(declared)
        declared_p = float(of_codes[self.codes.index(code)]) if code in self.codes else None
        return Scored(
            {"language": self.codes[likeliest], "language_p": float(of_codes[likeliest]), "declared_p": declared_p}
        )


def name_language(label: str) -> str:
    """Read the language out of a label: ``hi: Hindi`` and ``hin`` are ``hi``."""
    spelt = label.partition(":")[0].strip()
    return canonical(spelt) or spelt


def classify_batch(batch: Batch, listen: Listen, labels: LanguageLabels, *, shortest: int) -> list[Answer]:
    """Put a batch to a classifier.

    Segments beyond ``LONGEST_S`` are heard in pieces of equal length, whose probabilities are averaged.

    Args:
        batch: the segments.
        listen: the classifier.
        labels: what its outputs mean.
        shortest: samples below which it hears nothing; such a segment is ``Unscored``, ``too_short``.
    """
    audible = [row for row, length in enumerate(batch.lengths) if length >= shortest]
    answers: list[Answer] = [Unscored(_too_short(int(length), shortest)) for length in batch.lengths]
    if audible:
        for row, heard in zip(audible, _hear_rows(batch, audible, listen), strict=True):
            answers[row] = labels.describe(heard, batch.languages[row])
    return answers


def _hear_rows(batch: Batch, rows: Sequence[int], listen: Listen) -> Sequence[NDArray[np.float64]]:
    longest = round(LONGEST_S * SAMPLE_RATE)
    if len(rows) == len(batch) and batch.waveforms.shape[1] <= longest:
        return list(listen(batch.waveforms, batch.lengths))
    pieces = [_cut_evenly(batch.waveforms[row, : batch.lengths[row]], longest) for row in rows]
    waveforms, lengths = _lay_out([piece for own in pieces for piece in own])
    ends = np.cumsum([len(own) for own in pieces])[:-1]
    return [own.mean(axis=0) for own in np.split(listen(waveforms, lengths), ends)]


def _cut_evenly(audio: NDArray[np.float32], longest: int) -> list[NDArray[np.float32]]:
    return np.array_split(audio, -(-len(audio) // longest))


def _lay_out(pieces: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    waveforms = np.zeros((len(pieces), int(lengths.max())), dtype=np.float32)
    for row, piece in zip(waveforms, pieces, strict=True):
        row[: len(piece)] = piece
    return waveforms, lengths


def _too_short(length: int, shortest: int) -> Fault:
    return Fault("too_short", f"{length} samples; the model needs {shortest}")

"""Language identification (LID): labels, columns, and how a batch is put to a classifier; shared by the LID models."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Answer, Column, Scored, Seconds, Unscored
from validation.errors import BadInput
from validation.languages import fold_lect, normalize_language_code
from validation.models.base import Batch
from validation.models.batching import pad_stack, split_evenly, too_short

MAX_PIECE_S: Seconds = 60.0
"""A longer segment is scored in pieces: attention costs by the square of the length."""

LID_COLUMNS = (
    Column("language", "str", "ISO 639", "The likeliest of all languages that it knows, by the audio alone."),
    Column("language_p", "float", "probability", "Its probability."),
    Column("declared_p", "float", "probability", "The declared language's; null if the model has no such language."),
)
Classifier: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float64]]
"""From waveforms (B, T) and lengths (B,) to the probability of each label (B, L)."""


class LanguageLabels:
    """The labels of a classifier as normalised language codes, each lect replaced by its language.

    The probability of a language is the sum over the labels of that language, such as ``swa`` and ``swh``, or ``hin``
    and ``bho``. A label that is not in ISO 639 keeps its spelling, so that the label's probability still counts against
    the declared language.

    Probabilities are never renormalised over a subset of the labels: if a segment that is declared as Hindi is English,
    English keeps its high probability.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """Take the labels in the order of the classifier's outputs, written as ``hin``, ``hi`` or ``hi: Hindi``."""
        codes = [fold_lect(language_of_label(label)) for label in labels]
        self.codes = tuple(dict.fromkeys(codes))
        self._code_of_label = np.array([self.codes.index(code) for code in codes])

    def fold(self, label_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the probabilities of labels of one language, (L,) -> (C,)."""
        code_p = np.zeros(len(self.codes))
        np.add.at(code_p, self._code_of_label, label_p)
        return code_p

    def describe(self, label_p: NDArray[np.float64], declared: str | None) -> Scored:
        """Answer with the likeliest language, and with the declared language's probability if the model knows it."""
        code_p = self.fold(label_p)
        likeliest = int(code_p.argmax())
        code = fold_lect(normalize_language_code(declared) or "")
        declared_p = float(code_p[self.codes.index(code)]) if code in self.codes else None
        return Scored(
            {"language": self.codes[likeliest], "language_p": float(code_p[likeliest]), "declared_p": declared_p}
        )


def refuse_unknown_labels(model: str, labels: Sequence[str]) -> None:
    """Refuse a classifier with a label that no table knows: it would count against every declared language.

    Raises:
        BadInput: names the labels.
    """
    unknown = [label for label in labels if not _is_known(label.partition(":")[0].strip())]
    if unknown:
        raise BadInput(
            f"{model} has labels that are no language codes of ISO 639: {', '.join(unknown[:5])}: "
            "check its configuration, or add them to validation/languages.py"
        )


def _is_known(code: str) -> bool:
    """Whether ISO 639 knows a code, or knew it: withdrawn codes only count against a declared language."""
    from iso639 import Language, LanguageNotFoundError  # noqa: PLC0415 - 0.4 s

    if normalize_language_code(code) is not None:
        return True
    try:
        Language.match(code)
    except LanguageNotFoundError:
        return False
    return True


def language_of_label(label: str) -> str:
    """Read the language out of a label: ``hi: Hindi`` and ``hin`` are ``hi``."""
    written = label.partition(":")[0].strip()
    return normalize_language_code(written) or written


def classify_batch(batch: Batch, classify: Classifier, labels: LanguageLabels, *, min_samples: int) -> list[Answer]:
    """Classify a batch.

    Segments beyond ``MAX_PIECE_S`` are cut into pieces of equal length, whose probabilities are averaged.

    Args:
        batch: the segments.
        classify: the classifier.
        labels: the labels of its outputs.
        min_samples: the shortest input of the classifier; a shorter segment is ``Unscored``, ``too_short``.
    """
    long_enough = [row for row, length in enumerate(batch.lengths) if length >= min_samples]
    answers: list[Answer] = [Unscored(too_short(int(length), min_samples)) for length in batch.lengths]
    if long_enough:
        for row, label_p in zip(long_enough, _classify_rows(batch, long_enough, classify), strict=True):
            answers[row] = labels.describe(label_p, batch.languages[row])
    return answers


def _classify_rows(batch: Batch, rows: Sequence[int], classify: Classifier) -> Sequence[NDArray[np.float64]]:
    max_samples = round(MAX_PIECE_S * SAMPLE_RATE)
    if len(rows) == len(batch) and batch.waveforms.shape[1] <= max_samples:
        return list(classify(batch.waveforms, batch.lengths))
    pieces = [split_evenly(batch.waveforms[row, : batch.lengths[row]], MAX_PIECE_S) for row in rows]
    waveforms, lengths = pad_stack([piece for own in pieces for piece in own])
    ends = np.cumsum([len(own) for own in pieces])[:-1]
    return [own.mean(axis=0) for own in np.split(classify(waveforms, lengths), ends)]

"""Identify the language of segments with a classifier: the labels, columns and batches of MMS-LID and VoxLingua107."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import Answer, Column, Scored, Seconds, Unscored
from validation.errors import BadInput
from validation.hardware.device import Device
from validation.hardware.streams import read_later
from validation.languages import normalize_language_code, to_macrolanguage
from validation.models.base import Answering, Batch
from validation.models.batching import too_short_fault
from validation.models.upload import DeviceAudio, upload_pieces

MAX_PIECE_S: Seconds = 60.0
"""A longer segment is scored in pieces, because the cost of attention grows with the square of the length."""

LID_COLUMNS = (
    Column("language", "str", "ISO 639", "The likeliest of all languages that it knows, by the audio alone."),
    Column("language_p", "float", "probability", "Its probability."),
    Column("declared_p", "float", "probability", "The declared language's; null if the model has no such language."),
)
Classifier: TypeAlias = Callable[[DeviceAudio], Tensor]
"""A function from B items of audio to the (B, L) float64 probabilities of the L labels, on the device of the audio.

On a GPU it queues its work and does not wait for it.
"""


class LanguageLabels:
    """The labels of a classifier as normalised language codes, after ``to_macrolanguage``.

    The probability of a language is the sum over the labels of that language, such as ``swa`` and ``swh``, or ``hin``
    and ``bho``. A label that is not in ISO 639 stays unchanged, so that the label's probability still counts against
    the declared language.

    Probabilities are never renormalised over a subset of the labels: if a segment that is declared as Hindi is English,
    English keeps its high probability.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        """Convert the labels, which are in the order of the outputs and look like ``hin``, ``hi`` or ``hi: Hindi``."""
        codes = [to_macrolanguage(language_of_label(label)) for label in labels]
        self.codes = tuple(dict.fromkeys(codes))
        """The languages of the classifier, as normalised codes without duplicates."""
        self._code_of_label = np.array([self.codes.index(code) for code in codes])

    def sum_per_language(self, label_p: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the (L,) label probabilities per language; return the (C,) probabilities of ``codes``."""
        code_p = np.zeros(len(self.codes))
        np.add.at(code_p, self._code_of_label, label_p)
        return code_p

    def make_answer(self, label_p: NDArray[np.float64], declared: str | None) -> Scored:
        """Make the answer for one segment from its (L,) label probabilities.

        ``declared_p`` is None if no language is declared or the model does not know the declared language.
        """
        code_p = self.sum_per_language(label_p)
        likeliest = int(code_p.argmax())
        code = to_macrolanguage(normalize_language_code(declared) or "")
        declared_p = float(code_p[self.codes.index(code)]) if code in self.codes else None
        return Scored(
            {"language": self.codes[likeliest], "language_p": float(code_p[likeliest]), "declared_p": declared_p}
        )


def refuse_unknown_labels(model: str, labels: Sequence[str]) -> None:
    """Check that every label of a classifier is a known language code.

    The probability of an unknown label would count against every declared language.

    Raises:
        BadInput: a label is unknown. The message lists up to five unknown labels.
    """
    unknown = [label for label in labels if not _is_known(label.partition(":")[0].strip())]
    if unknown:
        raise BadInput(
            f"{model} has labels that are no language codes of ISO 639: {', '.join(unknown[:5])}: "
            "check its configuration, or add them to validation/languages.py"
        )


def _is_known(code: str) -> bool:
    """Return whether a code is in ISO 639 or was withdrawn from it. A withdrawn code is never a declared language."""
    from iso639 import Language, LanguageNotFoundError  # noqa: PLC0415 - 0.4 s

    if normalize_language_code(code) is not None:
        return True
    try:
        Language.match(code)
    except LanguageNotFoundError:
        return False
    return True


def language_of_label(label: str) -> str:
    """Return the language code of a label: ``hi`` for ``hi: Hindi`` and ``hin``; an unknown code stays unchanged."""
    written = label.partition(":")[0].strip()
    return normalize_language_code(written) or written


def launch_classification(
    batch: Batch, classify: Classifier, labels: LanguageLabels, device: Device, *, min_samples: int
) -> Answering:
    """Queue a classifier of languages for the segments of a batch.

    A segment that is longer than ``MAX_PIECE_S`` is cut into pieces of equal length. Its probabilities are the mean
    over its pieces.

    Args:
        batch: the segments.
        classify: the classifier.
        labels: the labels of the classifier's outputs.
        device: the device of the classifier.
        min_samples: the length of the classifier's shortest input. A shorter segment is ``Unscored`` (``too_short``).

    Returns:
        A function that waits for the classifier and returns one answer per segment, in the order of the batch.
    """
    rows = [row for row, length in enumerate(batch.lengths) if length >= min_samples]
    answers: list[Answer] = [Unscored(too_short_fault(int(length), min_samples)) for length in batch.lengths]
    if not rows:
        return lambda: answers
    pieces = upload_pieces(batch, rows, MAX_PIECE_S, device)
    read = read_later(classify(pieces.audio))
    ends = np.cumsum(pieces.counts)[:-1]

    def answer() -> list[Answer]:
        (piece_p,) = read()
        for row, own in zip(rows, np.split(piece_p, ends), strict=True):
            answers[row] = labels.make_answer(own.mean(axis=0), batch.languages[row])
        return answers

    return answer

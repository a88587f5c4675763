"""Compare a suite's answers in half precision with its answers in single precision. All functions are pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

import numpy as np

from validation.domain import Answer, Scalar, Scored, Utterance
from validation.languages import normalize_language_code
from validation.scoring.features import cer
from validation.scoring.signals import SuiteRoles
from validation.scoring.text import comparable_text

Answers: TypeAlias = Sequence[Mapping[str, Answer]]
"""A suite's answers: one mapping from model name to answer per utterance."""

MIN_TOP1_AGREEMENT = 0.995
MAX_P_CHANGE = 0.02
MAX_CER_CHANGE = 0.001
MAX_ALIGN_CHANGE = 0.02
"""The limits of the comparison: the minimum share of utterances with the same likeliest language, the maximum change of
a probability and of an alignment score in 99 % of utterances, and the maximum mean change of the CER. Half precision
changes the answers of a sound model by a tenth of these limits. Changes beyond them show an overflow. A published
float16 build of the recogniser wrote blank transcripts without an error."""


@dataclass(frozen=True, slots=True)
class PrecisionCheck:
    """The result of one comparison between the precisions."""

    model: str
    measure: str
    """What is measured, such as ``answers lost`` or ``mean CER change``."""
    found: float
    """The measured value."""
    limit: str
    """The limit of the value, as text such as ``<= 0.02``."""
    passed: bool
    """Whether the value is within its limit."""


def compare_precisions(
    utterances: Sequence[Utterance], single: Answers, half: Answers, roles: SuiteRoles
) -> list[PrecisionCheck]:
    """Compare the answers of a suite in half precision with its answers in single precision.

    Args:
        utterances: the utterances. A stored transcript, if not empty, is the reference of the CER.
        single: answers in single precision, in the order of the utterances.
        half: answers in half precision, in the order of the utterances.
        roles: the names of all models, of the ASR model and of the LID models.

    Returns:
        For every model, a check that half precision loses no answer. For each LID model, checks of its likeliest
        language and of its probabilities. For the ASR model, checks of blank texts, CER and alignment scores. All but
        the first use only utterances with an answer in both precisions. A check without values to compare is left out.
    """
    checks: list[PrecisionCheck] = []
    for model in roles.models:
        pairs = [_values_of(before[model], after[model]) for before, after in zip(single, half, strict=True)]
        lost = sum(bool(before) and not after for before, after in pairs)
        checks.append(PrecisionCheck(model, "answers lost", lost, "= 0", lost == 0))
        both = [bool(before and after) for before, after in pairs]
        answered = list(compress(pairs, both))
        if model in roles.lid_models:
            checks += _compare_lid(model, answered)
        if model == roles.asr_model:
            checks += _compare_asr(model, list(compress(utterances, both)), answered)
    return checks


_Values: TypeAlias = Mapping[str, Scalar]
_Pairs: TypeAlias = Sequence[tuple[_Values, _Values]]


def _values_of(before: Answer, after: Answer) -> tuple[_Values, _Values]:
    """Return the values of two answers; empty for an answer that is ``Unscored``."""
    return before.values if isinstance(before, Scored) else {}, after.values if isinstance(after, Scored) else {}


def _compare_lid(model: str, pairs: _Pairs) -> Iterator[PrecisionCheck]:
    """Compare the likeliest languages and the probabilities of a LID model; ``pairs`` are values before and after."""
    named = [(before, after) for before, after in pairs if before["language"] is not None]
    if not named:
        return
    agreeing = float(np.mean([before["language"] == after["language"] for before, after in named]))
    yield PrecisionCheck(
        model, "top-1 agreement", agreeing, f">= {MIN_TOP1_AGREEMENT:.1%}", agreeing >= MIN_TOP1_AGREEMENT
    )
    for column in ("language_p", "declared_p"):
        yield from _compare_numbers(model, column, named, MAX_P_CHANGE)


def _compare_asr(model: str, utterances: Sequence[Utterance], pairs: _Pairs) -> Iterator[PrecisionCheck]:
    """Compare the texts and the alignment scores of the ASR model; ``pairs`` are values before and after."""
    texts = [(str(before["text"] or ""), str(after["text"] or "")) for before, after in pairs]
    blanks = sum(not after for _, after in texts) - sum(not before for before, _ in texts)
    yield PrecisionCheck(model, "further blank texts", blanks, "= 0", blanks == 0)
    changes = [
        change
        for utterance, (before, after) in zip(utterances, texts, strict=True)
        if (change := _cer_change(utterance, before, after)) is not None
    ]
    if changes:
        mean = float(np.mean(np.abs(changes)))
        yield PrecisionCheck(model, "mean CER change", mean, f"<= {MAX_CER_CHANGE:g}", mean <= MAX_CER_CHANGE)
    for column in ("align_tok", "align_frame"):
        yield from _compare_numbers(model, column, pairs, MAX_ALIGN_CHANGE)


def _cer_change(utterance: Utterance, before: str, after: str) -> float | None:
    """Return the CER in half precision minus the CER in single precision; None if the CER is undefined.

    The reference is the stored transcript, or the text in single precision if there is no stored transcript.
    """
    language = normalize_language_code(utterance.language)
    reference, single, half = (comparable_text(text, language) for text in (utterance.text or before, before, after))
    rates = cer(reference, single), cer(reference, half)
    return None if rates[0] is None or rates[1] is None else rates[1] - rates[0]


def _compare_numbers(model: str, column: str, pairs: _Pairs, limit: float) -> Iterator[PrecisionCheck]:
    """Check the 99th percentile of a column's changes. A value that is null on one side only is an infinite change."""
    changes = [
        abs(float(before[column] or 0) - float(after[column] or 0))
        if before[column] is not None and after.get(column) is not None
        else float("inf")
        for before, after in pairs
        if before.get(column) is not None or after.get(column) is not None
    ]
    if changes:
        p99 = float(np.percentile(changes, 99, method="higher"))
        yield PrecisionCheck(model, f"{column} change, p99", p99, f"<= {limit:g}", p99 <= limit)

"""Whether a suite in half precision says what it says in single precision. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeAlias

import numpy as np

from validation.domain import Answer, Scalar, Scored, Utterance
from validation.models.languages import canonical
from validation.scoring.cer import cer
from validation.scoring.signals import SuiteRoles
from validation.scoring.text import comparable_text

Answers: TypeAlias = Sequence[Mapping[str, Answer]]
"""What a suite says of each utterance, by model."""

MIN_TOP1_AGREEMENT = 0.995
MAX_P_CHANGE = 0.02
MAX_CER_CHANGE = 0.001
MAX_ALIGN_CHANGE = 0.02
"""Half precision moves a sound model by a tenth of these. What exceeds them has overflowed somewhere: a published
build of this recogniser in float16 wrote blank transcripts while everything about it looked well."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must not have changed."""

    model: str
    measure: str
    found: float
    limit: str
    passed: bool


def compare_precisions(asked: Sequence[Utterance], fine: Answers, coarse: Answers, roles: SuiteRoles) -> list[Check]:
    """Hold the answers of one suite in half precision against those in single precision.

    Args:
        asked: what was asked; stored transcripts are the reference of character errors where there are any.
        fine: answers in single precision, one an utterance.
        coarse: answers in half precision, in the same order.
        roles: who transcribes, and who judges languages.

    Returns:
        For every model, that it answers wherever it did; for each judge, its first choices and their probabilities;
        for the transcriber, blanks, character errors and alignment. What nobody answered is compared by nobody.
    """
    checks: list[Check] = []
    for model in roles.models:
        pairs = [_values_of(before[model], after[model]) for before, after in zip(fine, coarse, strict=True)]
        lost = sum(bool(before) and not after for before, after in pairs)
        checks.append(Check(model, "answers lost", lost, "= 0", lost == 0))
        both = [bool(before and after) for before, after in pairs]
        answered = list(compress(pairs, both))
        if model in roles.judges:
            checks += _compare_judge(model, answered)
        if model == roles.transcriber:
            checks += _compare_transcriber(model, list(compress(asked, both)), answered)
    return checks


_Values: TypeAlias = Mapping[str, Scalar]
_Pairs: TypeAlias = Sequence[tuple[_Values, _Values]]


def _values_of(before: Answer, after: Answer) -> tuple[_Values, _Values]:
    return before.values if isinstance(before, Scored) else {}, after.values if isinstance(after, Scored) else {}


def _compare_judge(model: str, pairs: _Pairs) -> Iterator[Check]:
    named = [(before, after) for before, after in pairs if before["language"] is not None]
    if not named:
        return
    agreeing = float(np.mean([before["language"] == after["language"] for before, after in named]))
    yield Check(model, "top-1 agreement", agreeing, f">= {MIN_TOP1_AGREEMENT:.1%}", agreeing >= MIN_TOP1_AGREEMENT)
    for column in ("language_p", "declared_p"):
        yield from _compare_numbers(model, column, named, MAX_P_CHANGE)


def _compare_transcriber(model: str, asked: Sequence[Utterance], pairs: _Pairs) -> Iterator[Check]:
    texts = [(str(before["text"] or ""), str(after["text"] or "")) for before, after in pairs]
    blanks = sum(not after for _, after in texts) - sum(not before for before, _ in texts)
    yield Check(model, "further blank texts", blanks, "= 0", blanks == 0)
    changes = [
        change
        for utterance, (before, after) in zip(asked, texts, strict=True)
        if (change := _cer_change(utterance, before, after)) is not None
    ]
    if changes:
        mean = float(np.mean(np.abs(changes)))
        yield Check(model, "mean CER change", mean, f"<= {MAX_CER_CHANGE:g}", mean <= MAX_CER_CHANGE)
    for column in ("align_tok", "align_frame"):
        yield from _compare_numbers(model, column, pairs, MAX_ALIGN_CHANGE)


def _cer_change(utterance: Utterance, before: str, after: str) -> float | None:
    """How much worse the text fits its transcript; where there is none, the text of single precision."""
    language = canonical(utterance.language)
    reference, fine, coarse = (comparable_text(text, language) for text in (utterance.text or before, before, after))
    rates = cer(reference, fine), cer(reference, coarse)
    return None if rates[0] is None or rates[1] is None else rates[1] - rates[0]


def _compare_numbers(model: str, column: str, pairs: _Pairs, limit: float) -> Iterator[Check]:
    """The 99th percentile of a number's change; a number that came or went has changed beyond measure."""
    changes = [
        abs(float(before[column] or 0) - float(after[column] or 0))
        if before[column] is not None and after.get(column) is not None
        else float("inf")
        for before, after in pairs
        if before.get(column) is not None or after.get(column) is not None
    ]
    if changes:
        p99 = float(np.percentile(changes, 99, method="higher"))
        yield Check(model, f"{column} change, p99", p99, f"<= {limit:g}", p99 <= limit)

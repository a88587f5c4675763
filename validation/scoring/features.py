"""Signals of one segment: character error rates, speaking rate and votes on the language."""

from collections.abc import Iterable
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from validation.domain import Seconds
from validation.languages import fold_lect

EDGE_CHARS = 12
"""Characters of an edge: about a second of speech, or two words in most languages."""


def cer(reference: str, hypothesis: str) -> float | None:
    """Character error rate: substitutions, insertions and deletions per character of the reference.

    A character is a Unicode code point. Pass both texts through ``comparable_text`` first.

    Returns:
        0 for equal texts, 1 for an empty hypothesis, more than 1 for some hypotheses that are longer than the
        reference; None for an empty reference, which has no rate.
    """
    return Levenshtein.distance(reference, hypothesis) / len(reference) if reference else None


def edge_cer_start(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """Character error rate of the reference's first characters, in [0, 1].

    The fewest edits between those characters and any beginning of the hypothesis, per character: 0 when the
    hypothesis begins as the reference does, whatever follows. It is high where a cut removed the first word, which
    the rate over the whole text hides. None for an empty reference.
    """
    edge = reference[:edge_chars]
    if not edge:
        return None
    # A beginning more than twice as long as the edge costs more edits than an empty one.
    longest = min(len(hypothesis), 2 * len(edge))
    return min(Levenshtein.distance(edge, hypothesis[:n]) for n in range(longest + 1)) / len(edge)


def edge_cer_end(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """Character error rate of the reference's last characters: ``edge_cer_start`` of both texts reversed."""
    return edge_cer_start(reference[::-1], hypothesis[::-1], edge_chars)


def chars_per_second(text: str, duration_s: Seconds) -> float | None:
    """Characters per second of audio, without spaces; None for audio without length."""
    return len(text.replace(" ", "")) / duration_s if duration_s > 0 else None


@dataclass(frozen=True, slots=True)
class LidPrediction:
    """The prediction of one LID model, in normalised language codes."""

    top1: str | None
    """The likeliest language; None if the model gave no answer."""
    p_declared: float | None
    """The declared language's probability; None if the model does not know that language."""


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """Votes of the LID models on the declared language. The three counts add up to the number of models."""

    agreeing: int
    opposing: int
    abstaining: int


def count_votes(declared: str | None, predictions: Iterable[LidPrediction]) -> VoteCounts:
    """Count the LID models for and against the declared language.

    A model abstains if it gave no answer or does not know the declared language: its first choice is then no evidence
    against that language. Without a declared language all models abstain. A vote is a model's first choice at any
    probability; the probabilities are separate columns. Lects of one language agree with each other.
    """
    votes = [_vote(declared, prediction) for prediction in predictions]
    return VoteCounts(votes.count(True), votes.count(False), votes.count(None))


def _vote(declared: str | None, prediction: LidPrediction) -> bool | None:
    if declared is None or prediction.p_declared is None or prediction.top1 is None:
        return None
    return fold_lect(prediction.top1) == fold_lect(declared)

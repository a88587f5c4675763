"""Whether those who can tell languages apart hear the declared one."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LidPrediction:
    """What one judge hears, in the code that the declared language is written in (ISO 639-1, else 639-3)."""

    top1: str | None
    """The likeliest language; None if the judge gave no answer."""
    p_declared: float | None
    """The declared language's probability; None if the judge does not know that language."""


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """How the judges voted. The three counts add up to the number of judges."""

    agreeing: int
    opposing: int
    abstaining: int


def count_votes(declared: str | None, opinions: Iterable[LidPrediction]) -> VoteCounts:
    """Count the judges for and against the declared language.

    A judge abstains who gave no answer, or who does not know the declared language: what else it hears is
    then no evidence against it. Where nobody declared a language, everybody abstains. A vote is a judge's
    first choice, however sure; the probabilities are columns of their own.
    """
    votes = [_vote(declared, opinion) for opinion in opinions]
    return VoteCounts(votes.count(True), votes.count(False), votes.count(None))


def _vote(declared: str | None, opinion: LidPrediction) -> bool | None:
    knows_it = declared is not None and opinion.p_declared is not None
    return opinion.top1 == declared if knows_it and opinion.top1 is not None else None

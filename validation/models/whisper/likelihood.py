"""How likely a stored transcript is beside the recognised text, from the token log-probabilities of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

from validation.domain import Scalar
from validation.models.whisper.tokenizer import TokenizedText
from validation.scoring.text import normalise_text


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The stored transcript's log-probabilities on the audio, in nats."""

    tokens: int
    transcript_lp: float
    greedy_lp: float
    worst_word_lp: float
    worst_stretch_lp: float | None
    """None where the recognised text's tokens cannot be assigned to words."""


def best_spelling_score(
    recognised: TokenizedText | None, spellings: Sequence[TokenizedText], log_ps: Sequence[NDArray[np.float64]]
) -> Likelihood:
    """Compare a transcript, in its likeliest spelling, with the recognised text.

    Args:
        recognised: the recognised text; None if its tokens cannot be assigned to words.
        spellings: the spellings of the transcript.
        log_ps: the token log-probabilities of the recognised text, then of each spelling.
    """
    greedy, *spelt = log_ps
    spelling, log_p = max(zip(spellings, spelt, strict=True), key=lambda pair: float(pair[1].mean()))
    words = np.split(log_p, spelling.word_ends[:-1])
    return Likelihood(
        tokens=len(spelling.tokens),
        transcript_lp=float(log_p.mean()),
        greedy_lp=float(greedy.mean()),
        worst_word_lp=min(float(word.mean()) for word in words),
        worst_stretch_lp=None if recognised is None else worst_stretch_lp(spelling, log_p, recognised, greedy),
    )


def worst_stretch_lp(
    stored: TokenizedText, stored_lp: NDArray[np.float64], heard: TokenizedText, heard_lp: NDArray[np.float64]
) -> float:
    """The worst stretch of words in which two texts differ: log-probability of the one less that of the other, in nats.

    A word's own probability is low for a rare word as for a wrong one. Here it is compared with what was heard in its
    place: a rare word that was misheard has a rival that is about as likely, a wrong word has one that is far likelier.
    The word after a stretch counts with it, because a word too many or too few shows there. At most 0.
    """
    one, other = _normalised(stored), _normalised(heard)
    one_lp, other_lp = _word_sums(stored, stored_lp), _word_sums(heard, heard_lp)
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    differing = (
        float(one_lp[start : stop + 1].sum() - other_lp[heard_start : heard_stop + 1].sum())
        for kind, start, stop, heard_start, heard_stop in matcher.get_opcodes()
        if kind != "equal"
    )
    return min(differing, default=0.0)


def describe_likelihood(likelihood: Likelihood | None) -> Mapping[str, Scalar]:
    """The values of the columns that depend on the transcript; all None without a comparison."""
    if likelihood is None:
        return dict.fromkeys(("tokens", "transcript_lp", "greedy_lp", "align_tok", "align_min", "align_stretch"))
    return {
        "tokens": likelihood.tokens,
        "transcript_lp": likelihood.transcript_lp,
        "greedy_lp": likelihood.greedy_lp,
        "align_tok": likelihood.transcript_lp - likelihood.greedy_lp,
        "align_min": likelihood.worst_word_lp,
        "align_stretch": likelihood.worst_stretch_lp,
    }


def _normalised(text: TokenizedText) -> list[str]:
    return [normalise_text(word) for word in text.words]


def _word_sums(text: TokenizedText, log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.add.reduceat(log_p, [0, *text.word_ends[:-1]])

"""One segment on its way through Whisper: what is asked about it, and what has been heard so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Waveform
from validation.models.languages import canonical
from validation.models.whisper.tokenizer import TokenizedText
from validation.scoring.text import has_digits, normalise_text

WINDOWS_S = (10, 20, 30)
"""Seconds that the encoder listens at once. Ten cost a quarter of Whisper's usual thirty and name languages as well."""
CONFIDENT_P = 0.5
"""A language above this is likelier than all others together."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How well the stored transcript fits the audio, in nats."""

    tokens: int
    transcript_lp: float
    greedy_lp: float
    worst_word_lp: float


@dataclass(slots=True)
class SegmentState:
    """One segment. Its pieces are heard one by one; most have one piece."""

    transcript: str
    declared: str | None
    pieces: tuple[Waveform, ...]
    encoded: list[NDArray[np.float32]] = field(default_factory=list)
    languages_of_pieces: list[Mapping[str, float]] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    """What was recognised in each piece."""
    spellings: tuple[TokenizedText, ...] = ()
    """Ways to write the transcript; none if it cannot be compared."""
    likelihood: Likelihood | None = None

    @property
    def window_s(self) -> int:
        """The encoder's window for all pieces: the segment's own length picks it, never its company's."""
        longest_s = len(self.pieces[0]) / SAMPLE_RATE
        return next(window_s for window_s in WINDOWS_S if longest_s <= window_s)

    @property
    def languages(self) -> Mapping[str, float]:
        """Probability of each language: the mean over the pieces, which are equally long."""
        pieces = self.languages_of_pieces
        return {code: sum(p[code] for p in pieces) / len(pieces) for code in pieces[0]}

    @property
    def declared_p(self) -> float | None:
        """Probability of the declared language; None if nobody declared one that Whisper knows."""
        return self.languages.get(canonical(self.declared) or "")

    @property
    def language(self) -> str | None:
        """The language to listen in; None if Whisper does not know the one it would have to."""
        likeliest, p = max(self.languages.items(), key=lambda item: item[1])
        if not self.declared:
            return likeliest
        if self.declared_p is None:
            return None
        return likeliest if p > CONFIDENT_P else canonical(self.declared)

    @property
    def wants_numerals(self) -> bool:
        """Whether numbers may be heard as digits: not where the transcript spells them, and they look like errors."""
        return has_digits(self.transcript) or not normalise_text(self.transcript)

    @property
    def is_comparable(self) -> bool:
        """Whether there is a transcript, and a text recognised in one go to hold it against."""
        return len(self.pieces) == 1 and bool(normalise_text(self.transcript)) and any(self.tokens)

    @property
    def texts(self) -> tuple[tuple[int, ...], ...]:
        """What is to be scored on the audio: the recognised text, then the transcript in each spelling."""
        return (self.tokens[0], *(spelling.tokens for spelling in self.spellings))


def cut_pieces(audio: Waveform) -> tuple[Waveform, ...]:
    """Cut audio into as few equal pieces as fit the longest window; the first is never shorter than another."""
    longest = WINDOWS_S[-1] * SAMPLE_RATE
    return tuple(np.array_split(audio, -(-len(audio) // longest)))


def best_spelling_score(spellings: Sequence[TokenizedText], log_ps: Sequence[NDArray[np.float64]]) -> Likelihood:
    """Compare a transcript, in its likeliest spelling, with the recognised text.

    Args:
        spellings: the ways to write the transcript.
        log_ps: the log-probabilities of the recognised text's tokens, then of each spelling's.
    """
    greedy, *spelt = log_ps
    spelling, log_p = max(zip(spellings, spelt, strict=True), key=lambda pair: float(pair[1].mean()))
    words = np.split(log_p, spelling.word_ends[:-1])
    return Likelihood(
        tokens=len(spelling.tokens),
        transcript_lp=float(log_p.mean()),
        greedy_lp=float(greedy.mean()),
        worst_word_lp=min(float(word.mean()) for word in words),
    )

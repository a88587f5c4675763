"""One segment on its way through IndicConformer: what is asked about it, and what has been heard so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Seconds, Waveform
from validation.models.conformer.engine import EngineOutput
from validation.models.conformer.tokenizer import TokenizedTranscript
from validation.models.conformer.vocabulary import BLANK, PIECES
from validation.models.ctc import Alignment, collapse, is_feasible

LONGEST_S: Seconds = 30.0
"""A longer segment is heard in pieces: the model was trained on no more, attention costs by the square of the length,
and the exported graph ends somewhere beyond six minutes."""
LARGEST_LATTICE = 1 << 26
"""Frames by states that are aligned at once, half a GB of memory: a transcript of 4,400 tokens on ten minutes."""
DECISIVE_MARGIN = 0.051
"""Nats a token by which one language must fit better than the next. The one published use of this score accepts from
here on (github.com/VedantaHatti/indicconformer-lid); as the unit of the odds it makes them 1 : e."""

_GUESS_LP = float(-np.log(PIECES + 1))
"""What a language is given that would write nothing: the log-probability of a guess."""


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """How well each language fits, and by how much the best one leads."""

    p: NDArray[np.float64]
    """(L,) shares; they add up to 1."""
    margin: float
    """Nats a token between the best and the next."""


@dataclass(frozen=True, slots=True)
class TranscriptScore:
    """The stored transcript against what was heard, in nats."""

    transcript_lp: float
    """Over all alignments."""
    greedy_lp: float
    """The recognised text's, over all alignments."""
    alignment: Alignment
    """Of the transcript, the likeliest."""


@dataclass
class SegmentResult:
    """One segment."""

    language: str | None
    """The declared language; None if the model has no such language."""
    transcript: TokenizedTranscript | None
    """None without a language to spell it in."""
    log_probs: NDArray[np.float32]
    """(T, 257) of all pieces, one after the other."""
    best_sums: NDArray[np.float32]
    best_counts: NDArray[np.float32]
    """(L,) as in ``EngineOutput``, over all pieces."""
    comparison: TranscriptScore | None = None

    @property
    def frames(self) -> int:
        return len(self.log_probs)

    @cached_property
    def greedy(self) -> tuple[int, ...]:
        """Token ids of the recognised text: the likeliest symbol of each frame."""
        return collapse(self.log_probs.argmax(axis=1), blank=BLANK)

    @property
    def blank_rate(self) -> float:
        """Share of frames in which nothing is likelier than any token."""
        return float((self.log_probs.argmax(axis=1) == BLANK).mean())

    @property
    def max_lp(self) -> float:
        """Log-probability of the likeliest path of all."""
        return float(self.log_probs.max(axis=1).sum(dtype=np.float64))

    @property
    def transcript_tokens(self) -> tuple[int, ...]:
        return self.transcript.tokens if self.transcript else ()

    @property
    def is_feasible(self) -> bool:
        return is_feasible(self.transcript_tokens, self.frames)

    @property
    def states(self) -> int:
        """States of the larger of the two lattices that a comparison needs."""
        return 2 * max(len(self.greedy), len(self.transcript_tokens)) + 1

    @property
    def is_comparable(self) -> bool:
        """Whether there is a transcript, spelt at least in part, that fits in the time and in memory."""
        spelt = self.transcript.spelt if self.transcript else 0
        return spelt > 0 and self.is_feasible and self.frames * self.states <= LARGEST_LATTICE

    @property
    def opinion(self) -> LanguageScores | None:
        """Weigh the languages; None if none of them would write anything.

        Each language scores the mean log-probability of the tokens that it would write by itself. Shares are a softmax
        over scores in units of ``DECISIVE_MARGIN``: comparable with each other, calibrated on nothing.
        """
        if not self.best_counts.any():
            return None
        means = self.best_sums.astype(np.float64) / np.maximum(self.best_counts, 1)
        scores = np.where(self.best_counts > 0, means, _GUESS_LP)
        odds = np.exp((scores - scores.max()) / DECISIVE_MARGIN)
        runner_up, best = np.sort(scores)[-2:]
        return LanguageScores(odds / odds.sum(), float(best - runner_up))

    @property
    def worst_word_lp(self) -> float | None:
        """The least likely word's mean over its tokens, where the transcript has been aligned."""
        if self.comparison is None or self.transcript is None:
            return None
        words = np.array(self.transcript.words)
        token_lp = self.comparison.alignment.token_lp
        return min(float(token_lp[words == word].mean()) for word in np.unique(words[words >= 0]))


def cut_pieces(audio: Waveform) -> tuple[Waveform, ...]:
    """Cut audio into as few equal pieces as are no longer than ``LONGEST_S``."""
    longest = round(LONGEST_S * SAMPLE_RATE)
    return tuple(np.array_split(audio, -(-len(audio) // longest)))


def join_pieces(
    heard: EngineOutput, rows: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Join what was heard in a segment's pieces: log-probabilities in time, and the languages' sums and counts."""
    log_probs = np.concatenate([heard.log_probs[row, : heard.frames[row]] for row in rows])
    return log_probs, heard.best_sums[rows].sum(axis=0), heard.best_counts[rows].sum(axis=0)

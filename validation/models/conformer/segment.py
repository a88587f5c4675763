"""The output of IndicConformer's network for one segment, and the scores that are derived from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from validation.domain import Seconds
from validation.models.conformer.tokenizer import BLANK, PIECES, TokenizedTranscript
from validation.models.ctc import Alignment, align_texts, collapse, is_feasible, one_thread, score_texts

MAX_PIECE_S: Seconds = 30.0
"""A longer segment is scored in pieces: the model was trained on no more, attention costs by the square of the length,
and the exported graph fails somewhere beyond six minutes."""
FRAME_S: Seconds = 0.08
"""Seconds of a frame."""
WINDOW_FRAMES = 12
"""About a second: the window in which the least likely part of an alignment is sought."""
MAX_LATTICE_CELLS = 1 << 26
"""Frames by states that are aligned at once, half a GB of memory: a transcript of 4,400 tokens on ten minutes."""
DECISIVE_MARGIN = 0.051
"""Nats per token by which the first language must lead the second. The one published use of this score accepts from
this margin on (github.com/VedantaHatti/indicconformer-lid); as the unit of the odds it makes them 1 : e."""

_GUESS_LP = float(-np.log(PIECES + 1))
"""The score of a language that would write nothing: the log-probability of a guess."""


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """The network's output for a batch."""

    log_probs: NDArray[np.float32]
    """(B, T, 257) log-probabilities of the pieces of each item's language, the blank last."""
    frames: NDArray[np.int64]
    """(B,) frames of each item; ``log_probs`` beyond them have no meaning."""
    best_sums: NDArray[np.float32]
    """(B, L) for each language, the sum of the log-probabilities of its greedy text's tokens."""
    best_counts: NDArray[np.float32]
    """(B, L) the number of those tokens."""


class Engine(Protocol):
    """Runs the network. Padding changes the log-probabilities of an item's own frames by rounding only."""

    name: str
    """The library and the precision: part of the model's revision."""

    def run(self, audio: NDArray[np.float32], lengths: NDArray[np.int64], languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch.

        Args:
            audio: (B, T) float32, zero-padded on the right.
            lengths: (B,) int64 samples, each at least ``MIN_SAMPLES``.
            languages: (B,) int64, each item's language as an index into the vocabulary's.
        """
        ...


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """How well each language fits, and by how much the first one leads."""

    p: NDArray[np.float64]
    """(L,) shares; they add up to 1."""
    margin: float
    """Nats per token between the first language and the second."""


@dataclass(frozen=True, slots=True)
class TranscriptScore:
    """The stored transcript compared with the recognised text, in nats."""

    transcript_lp: float
    """The transcript's, over all alignments."""
    greedy_lp: float
    """The recognised text's, over all alignments."""
    alignment: Alignment
    """The transcript's likeliest alignment."""


@dataclass
class SegmentResult:
    """The network's output for one segment, and the scores derived from it."""

    language: str | None
    """The declared language; None if the model does not know it."""
    transcript: TokenizedTranscript | None
    """None without a language to tokenize it in."""
    log_probs: NDArray[np.float32]
    """(T, 257) of all pieces, joined in time."""
    best_sums: NDArray[np.float32]
    best_counts: NDArray[np.float32]
    """(L,) as in ``EngineOutput``, over all pieces."""
    transcript_score: TranscriptScore | None = None

    @property
    def frames(self) -> int:
        return len(self.log_probs)

    @cached_property
    def greedy(self) -> tuple[int, ...]:
        """Token ids of the recognised text: the likeliest symbol of each frame, collapsed."""
        return collapse(self.log_probs.argmax(axis=1), blank=BLANK)

    @property
    def blank_rate(self) -> float:
        """Share of frames whose likeliest symbol is the blank."""
        return float((self.log_probs.argmax(axis=1) == BLANK).mean())

    @property
    def max_lp(self) -> float:
        """Log-probability of the likeliest path over all symbols."""
        return float(self.log_probs.max(axis=1).sum(dtype=np.float64))

    @property
    def transcript_tokens(self) -> tuple[int, ...]:
        return self.transcript.tokens if self.transcript else ()

    @property
    def is_feasible(self) -> bool:
        return is_feasible(self.transcript_tokens, self.frames)

    @property
    def states(self) -> int:
        """States of the larger of the two lattices that scoring the transcript needs."""
        return 2 * max(len(self.greedy), len(self.transcript_tokens)) + 1

    @property
    def is_comparable(self) -> bool:
        """Whether there is a transcript with tokens that fits in the frames and in memory."""
        known = self.transcript.known_tokens if self.transcript else 0
        return known > 0 and self.is_feasible and self.frames * self.states <= MAX_LATTICE_CELLS

    @property
    def language_scores(self) -> LanguageScores | None:
        """Score the languages; None if none of them would write anything.

        A language's score is the mean log-probability of its greedy text's tokens. Shares are a softmax over scores in
        units of ``DECISIVE_MARGIN``: comparable with each other, but not calibrated.
        """
        if not self.best_counts.any():
            return None
        means = self.best_sums.astype(np.float64) / np.maximum(self.best_counts, 1)
        scores = np.where(self.best_counts > 0, means, _GUESS_LP)
        odds = np.exp((scores - scores.max()) / DECISIVE_MARGIN)
        second, first = np.sort(scores)[-2:]
        return LanguageScores(odds / odds.sum(), float(first - second))

    @property
    def worst_word_lp(self) -> float | None:
        """The least likely word's log-probability, mean over its tokens; None before the transcript is aligned."""
        if self.transcript_score is None or self.transcript is None:
            return None
        words = np.array(self.transcript.words)
        token_lp = self.transcript_score.alignment.token_lp
        return min(float(token_lp[words == word].mean()) for word in np.unique(words[words >= 0]))


def worst_window_lp(frame_lp: NDArray[np.float64], best_lp: NDArray[np.float64]) -> float:
    """The least likely second of an alignment: its frames' mean log-probability, less that of the likeliest symbols.

    The minimum over windows is what ctc-segmentation rates utterances by (Kürzinger et al. 2020): a mean over the whole
    hides one wrong word. At most 0; audio shorter than a window is one window.
    """
    lost = np.concatenate([[0.0], np.cumsum(frame_lp - best_lp)])
    window = min(WINDOW_FRAMES, len(frame_lp))
    return float(((lost[window:] - lost[:-window]) / window).min())


def join_pieces(
    output: EngineOutput, rows: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Join the output for a segment's pieces: log-probabilities in time, and the languages' sums and counts."""
    log_probs = np.concatenate([output.log_probs[row, : output.frames[row]] for row in rows])
    return log_probs, output.best_sums[rows].sum(axis=0), output.best_counts[rows].sum(axis=0)


def score_transcripts(segments: Sequence[SegmentResult], device: str) -> None:
    """Score the transcript and the recognised text of each comparable segment, and align the transcript.

    Computed on the GPU where there is one: its few hundred small steps take as long for one segment as for a hundred,
    while the CPU takes two milliseconds per segment, during which the GPU would be idle.

    Args:
        segments: the segments of one batch; the ``transcript_score`` of each comparable one is set.
        device: where to compute.
    """
    with one_thread():
        for group in _limit_lattices([segment for segment in segments if segment.is_comparable]):
            _score_group(group, device)


def _limit_lattices(segments: Sequence[SegmentResult]) -> Iterator[list[SegmentResult]]:
    """Split into groups whose lattices, padded to the largest of the group, fit in memory together."""
    group: list[SegmentResult] = []
    for segment in segments:
        wider = [*group, segment]
        cells = len(wider) * max(item.frames for item in wider) * max(item.states for item in wider)
        if group and cells > MAX_LATTICE_CELLS:
            yield group
            wider = [segment]
        group = wider
    if group:
        yield group


def _score_group(group: Sequence[SegmentResult], device: str) -> None:
    frames = torch.tensor([item.frames for item in group], device=device)
    log_probs = [torch.from_numpy(item.log_probs) for item in group]
    padded = torch.nn.utils.rnn.pad_sequence(log_probs, batch_first=True).to(device)
    transcripts = [item.transcript_tokens for item in group]
    rows = zip(
        group,
        score_texts(padded, frames, transcripts, blank=BLANK),
        score_texts(padded, frames, [item.greedy for item in group], blank=BLANK),
        align_texts(padded, frames, transcripts, blank=BLANK),
        strict=True,
    )
    for item, transcript_lp, greedy_lp, alignment in rows:
        item.transcript_score = TranscriptScore(transcript_lp, greedy_lp, alignment)

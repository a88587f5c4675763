"""Score segments from the output of IndicConformer's network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import Seconds
from validation.hardware.device import Device
from validation.hardware.streams import Mark, read_later, side_queue
from validation.models.conformer.tokenizer import BLANK, PIECES, TokenizedTranscript
from validation.models.ctc import (
    Alignment,
    collapse,
    find_paths,
    has_alignment,
    make_alignments,
    one_thread,
    sum_paths,
)
from validation.models.upload import DeviceAudio

MAX_PIECE_S: Seconds = 30.0
"""A longer segment is cut into audio pieces of equal length. The model was trained on at most 30 s. The cost of
attention grows with the square of the length, and the exported graph fails beyond about six minutes."""
FRAME_S: Seconds = 0.08
"""The duration of one frame of the network's output."""
WINDOW_FRAMES = 12
"""The length of the windows of ``worst_window_lp`` in frames: about one second."""
MAX_LATTICE_CELLS = 1 << 26
"""The greatest product of frames and states that is aligned at once. It needs half a GB of memory, and is enough for a
transcript of 4,400 tokens on ten minutes of audio."""
DECISIVE_MARGIN = 0.051
"""The lead of the best language over the second, in nats per token, that counts as decisive. The one published use of
this score accepts a language from this margin on (github.com/VedantaHatti/indicconformer-lid). The margin is also the
unit of the odds: a lead of one margin gives odds of e : 1."""

_GUESS_LP = float(-np.log(PIECES + 1))
"""The score of a language whose greedy text is empty: the log-probability of a uniform guess among all symbols."""


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """The output of the network for a batch of B items and L languages.

    The tensors are on the device of the engine, where they may still be computed. ``frames`` is on the host.
    """

    log_probs: Tensor
    """(B, T, 257) float32 log-probabilities of the pieces of each item's language, the blank last."""
    frames: NDArray[np.int64]
    """(B,) number of frames of each item. The ``log_probs`` of later frames have no meaning."""
    best_sums: Tensor
    """(B, L) float32 sum of the log-probabilities of the tokens of the greedy text in each language."""
    best_counts: Tensor
    """(B, L) float32 number of tokens of the greedy text in each language."""


class HostOutput:
    """The output of the network for a batch, copied to the host except for the log-probabilities.

    The constructor queues the copy and does not wait for it. Only after ``wait`` the object has the copied arrays.

    Attributes:
        log_probs: as in ``EngineOutput``, on the device.
        frames: as in ``EngineOutput``.
        ready: a mark behind the log-probabilities and the copy.
        best_lp: (B, T) float32 log-probability of the likeliest symbol of each frame.
        symbols: (B, T) int64 likeliest symbol of each frame.
        best_sums: as in ``EngineOutput``.
        best_counts: as in ``EngineOutput``.
    """

    def __init__(self, output: EngineOutput) -> None:
        self.log_probs, self.frames = output.log_probs, output.frames
        best_lp, symbols = output.log_probs.max(dim=2)
        self._read = read_later(best_lp, symbols, output.best_sums, output.best_counts)
        self.ready = Mark("cuda" if output.log_probs.is_cuda else "cpu")

    def wait(self) -> None:
        """Wait for the copy; set ``best_lp``, ``symbols``, ``best_sums`` and ``best_counts``."""
        self.best_lp, self.symbols, self.best_sums, self.best_counts = self._read()


class Engine(Protocol):
    """The interface to a network. Padding changes the log-probabilities of an item's own frames by rounding only."""

    name: str
    """The library and the precision. The revision of the model contains this name."""

    def run(self, audio: DeviceAudio, languages: NDArray[np.int64]) -> EngineOutput:
        """Run the network on a batch. An engine may return while the device still computes.

        Args:
            audio: B items on the device of the engine, each at least ``mel.MIN_SAMPLES`` long.
            languages: (B,) int64, the language of each item as an index into ``Vocabulary.languages``.
        """
        ...


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """The scores of all languages for one segment."""

    p: NDArray[np.float64]
    """(L,) share of each language; the shares add up to 1."""
    margin: float
    """The lead of the best language over the second, in nats per token."""


@dataclass(frozen=True, slots=True)
class TranscriptScore:
    """The log-probabilities of the stored transcript and of the recognised text, in nats."""

    transcript_lp: float
    """The log-probability of the transcript, over all alignments."""
    greedy_lp: float
    """The log-probability of the recognised text, over all alignments."""
    alignment: Alignment
    """The transcript's likeliest alignment."""


@dataclass
class SegmentResult:
    """The output of the network for one segment of T frames, and the scores that are computed from the output."""

    language: str | None
    """The declared language; None if the model does not know it."""
    transcript: TokenizedTranscript | None
    """The tokens of the transcript; None if ``language`` is None."""
    log_probs: Sequence[Tensor]
    """The log-probabilities of each audio piece of the segment, on the device of the engine.

    Those of piece i are (T_i, 257) float32. The T_i add up to T.
    """
    best_lp: NDArray[np.float32]
    """(T,) log-probability of the likeliest symbol of each frame."""
    symbols: NDArray[np.int64]
    """(T,) likeliest symbol of each frame."""
    best_sums: NDArray[np.float32]
    """(L,) as in ``EngineOutput``, summed over all audio pieces of the segment."""
    best_counts: NDArray[np.float32]
    """(L,) as in ``EngineOutput``, summed over all audio pieces of the segment."""
    transcript_score: TranscriptScore | None = None
    """Is set by ``score_transcripts``; None before, and for a segment that is not comparable."""

    @property
    def frames(self) -> int:
        """The number of frames of the segment."""
        return len(self.symbols)

    @cached_property
    def greedy(self) -> tuple[int, ...]:
        """Token ids of the recognised text: the likeliest symbol of each frame, collapsed."""
        return collapse(self.symbols, blank=BLANK)

    @property
    def blank_rate(self) -> float:
        """The share of frames whose likeliest symbol is the blank."""
        return float((self.symbols == BLANK).mean())

    @property
    def max_lp(self) -> float:
        """The log-probability of the likeliest path over all symbols, in nats."""
        return float(self.best_lp.sum(dtype=np.float64))

    @property
    def transcript_tokens(self) -> tuple[int, ...]:
        """The tokens of the transcript; empty if the model does not know the declared language."""
        return self.transcript.tokens if self.transcript else ()

    @property
    def has_alignment(self) -> bool:
        """Whether the transcript has an alignment with the frames: see ``ctc.has_alignment``."""
        return has_alignment(self.transcript_tokens, self.frames)

    @property
    def states(self) -> int:
        """The number of CTC states of the transcript or of the recognised text, whichever has more."""
        return 2 * max(len(self.greedy), len(self.transcript_tokens)) + 1

    @property
    def is_comparable(self) -> bool:
        """Whether the transcript has known tokens, and fits in the frames and in memory."""
        known = self.transcript.known_tokens if self.transcript else 0
        return known > 0 and self.has_alignment and self.frames * self.states <= MAX_LATTICE_CELLS

    @property
    def language_scores(self) -> LanguageScores | None:
        """The scores of all languages; None if the greedy text is empty in every language.

        The score of a language is the mean log-probability of the tokens of its greedy text. The shares are a softmax
        over the scores in units of ``DECISIVE_MARGIN``. They are comparable with each other, but not calibrated.
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
        """The lowest mean log-probability over the tokens of one word; None before the transcript is aligned."""
        if self.transcript_score is None or self.transcript is None:
            return None
        words = np.array(self.transcript.words)
        token_lp = self.transcript_score.alignment.token_lp
        return min(float(token_lp[words == word].mean()) for word in np.unique(words[words >= 0]))


def worst_window_lp(frame_lp: NDArray[np.float64], best_lp: NDArray[np.float64]) -> float:
    """Return how much less likely than the likeliest symbols an alignment is in its worst second.

    ctc-segmentation rates utterances by the same minimum over windows (Kürzinger et al. 2020), because a mean over the
    whole utterance hides one wrong word. Audio that is shorter than a window counts as one window.

    Args:
        frame_lp: (T,) log-probability of the symbol that the alignment emits in each frame.
        best_lp: (T,) log-probability of the likeliest symbol in each frame.

    Returns:
        The minimum over windows of the mean of ``frame_lp - best_lp``, in nats per frame; at most 0.
    """
    lost = np.concatenate([[0.0], np.cumsum(frame_lp - best_lp)])
    window = min(WINDOW_FRAMES, len(frame_lp))
    return float(((lost[window:] - lost[:-window]) / window).min())


def join_pieces(
    output: HostOutput, rows: Sequence[int]
) -> tuple[list[Tensor], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Join the output for one segment whose audio was cut into pieces.

    Args:
        output: the output for the batch, after ``wait``.
        rows: the indices of the segment's pieces in the batch, in the order of time.

    Returns:
        The fields ``log_probs``, ``best_lp``, ``symbols``, ``best_sums`` and ``best_counts`` of ``SegmentResult``.
        The ``log_probs`` of the pieces are not joined: on a GPU that work would wait behind the work of other models.
    """
    ends = [(row, int(output.frames[row])) for row in rows]
    return (
        [output.log_probs[row, :end] for row, end in ends],
        np.concatenate([output.best_lp[row, :end] for row, end in ends]),
        np.concatenate([output.symbols[row, :end] for row, end in ends]),
        output.best_sums[rows].sum(axis=0),
        output.best_counts[rows].sum(axis=0),
    )


def score_transcripts(segments: Sequence[SegmentResult], device: Device, after: Mark) -> None:
    """Score the transcript and the recognised text of each comparable segment, align the transcript, and wait for it.

    On a GPU the few hundred small steps take as long for one segment as for a hundred. They run in the side queue,
    while the main queue computes other models. The results of a group of segments leave the GPU in one copy. On a CPU
    the sums are in double precision.

    Args:
        segments: the segments of one batch. The ``transcript_score`` of each comparable segment is set.
        device: the device of the log-probabilities.
        after: a mark behind the log-probabilities in the main queue.
    """
    groups = list(_group_by_lattice_size([segment for segment in segments if segment.is_comparable]))
    with (
        one_thread(),
        side_queue(device, after, [piece for group in groups for item in group for piece in item.log_probs]),
    ):
        for group in groups:
            _score_group(group, device)


def _group_by_lattice_size(segments: Sequence[SegmentResult]) -> Iterator[list[SegmentResult]]:
    """Split segments into groups. The lattices of a group, padded to the largest one, fit in memory together."""
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


def _score_group(group: Sequence[SegmentResult], device: Device) -> None:
    """Set the ``transcript_score`` of segments whose lattices fit in memory together, and wait for the device."""
    frames = torch.tensor([item.frames for item in group], device="cpu")
    joined = [torch.cat(list(item.log_probs)) if len(item.log_probs) > 1 else item.log_probs[0] for item in group]
    padded = torch.nn.utils.rnn.pad_sequence(joined, batch_first=True)
    if device == "cpu":
        padded = padded.double()
    transcripts, greedy = [item.transcript_tokens for item in group], [item.greedy for item in group]
    totals = [sum_paths(padded, frames, texts, blank=BLANK) for texts in (transcripts, greedy)]
    path_lp, states, emitted = find_paths(padded, frames, transcripts, blank=BLANK)
    transcript_lp, greedy_lp, *paths = read_later(*totals, path_lp, states, emitted)()
    alignments = make_alignments(paths[0], paths[1], paths[2], frames.tolist(), transcripts)
    rows = zip(group, transcript_lp.tolist(), greedy_lp.tolist(), alignments, strict=True)
    for item, own_lp, heard_lp, alignment in rows:
        item.transcript_score = TranscriptScore(own_lp, heard_lp, alignment)

"""Signals of one segment from its texts: error rates, agreement in Latin letters, repetition, speaking rate, LID votes.

A recogniser may write a language in another script than its transcripts do (Whisper writes Hindi in Urdu letters),
and then every code point differs. So both texts are also romanised by anyascii, character by character, and compared
without spaces. Repetition is a sign of a recogniser that loops, or of a transcript that was stored twice.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from validation.domain import Seconds
from validation.languages import fold_lect
from validation.scoring.text import UNSPACED_LANGUAGES, normalise_text

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


MAX_PERIOD = 500
"""Longest repeated part that is looked for, in words. It bounds the work on a transcript of an hour."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """The longest part of a text that repeats what stands directly before it."""

    letters: int
    """Its letters, without spaces; 0 without a repetition."""
    fraction: float
    """The same as a share of the text's letters, in [0, 1]."""


def find_repetition(text: str, language: str | None) -> Repetition | None:
    """Find the longest run of words that equals the words directly before it; characters in scripts without spaces.

    ``a b a b`` repeats two words, ``a a a a`` three. None for a text without letters and numbers.
    """
    normal = normalise_text(text)
    words = list(normal.replace(" ", "")) if language in UNSPACED_LANGUAGES else normal.split()
    if not words:
        return None
    lengths = np.array([len(word) for word in words])
    index = {word: place for place, word in enumerate(dict.fromkeys(words))}
    ids = np.array([index[word] for word in words])
    periods = range(1, min(len(ids) // 2, MAX_PERIOD) + 1)
    longest = max((_longest_repeat(ids, lengths, period) for period in periods), default=0)
    return Repetition(longest, longest / int(lengths.sum()))


def compression_ratio(text: str) -> float | None:
    """Bytes of a text in UTF-8, by its bytes when compressed by zlib; None for an empty text.

    Whisper calls a text of more than 2.4 a failed decoding (Radford et al. 2022, section 4.5). Texts of a few words
    are below 1.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else None


def _longest_repeat(ids: NDArray[np.int64], lengths: NDArray[np.int64], period: int) -> int:
    """Letters of the longest stretch that equals the one ``period`` words before; 0 if it is shorter than a period."""
    equal = ids[period:] == ids[:-period]
    edges = np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    before = np.concatenate([[0], np.cumsum(lengths)])
    whole = ends - starts >= period
    letters = before[ends[whole] + period] - before[starts[whole] + period]
    return int(letters.max()) if len(letters) else 0


MIN_WORD_LETTERS = 3
"""A shorter word differs by one edit in half of its letters, which says little."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Edits from the transcript to the recognised text, in Latin letters. Shares are of the transcript's letters."""

    cer: float
    """Substitutions, insertions and deletions."""
    heard_ratio: float
    """Length of the recognised text by that of the transcript."""
    inserted: float
    """Letters that were heard and are not in the transcript."""
    deleted: float
    """Letters of the transcript that were not heard."""
    longest_inserted: float
    """Letters of the longest stretch that was heard and is not in the transcript."""
    worst_word: float | None
    """The highest share of edits in one word; None without a word of ``MIN_WORD_LETTERS``."""


@lru_cache(maxsize=8192)
def romanise_word(word: str) -> str:
    """Write a normalised word in the letters a-z and digits. May be empty."""
    return "".join(filter(str.isalnum, anyascii(word).casefold()))


def romanise(text: str, language: str | None) -> list[str]:
    """Write the words of a text in Latin letters; pairs of characters in scripts without spaces."""
    normal = normalise_text(text)
    words: Sequence[str] = normal.split()
    if language in UNSPACED_LANGUAGES:
        joined = "".join(words)
        words = [joined[start : start + 2] for start in range(0, len(joined), 2)]
    return [latin for word in words if (latin := romanise_word(word))]


def compare_romanised(transcript: Sequence[str], recognised: Sequence[str]) -> Agreement | None:
    """Compare two texts by their romanised words; None for a transcript without letters."""
    stored, heard = "".join(transcript), "".join(recognised)
    if not stored:
        return None
    edits_at = np.zeros(len(stored) + 1)
    runs = {"insert": [0], "delete": [0], "replace": [0]}
    for step in Levenshtein.opcodes(stored, heard):
        if step.tag == "equal":
            continue
        runs[step.tag].append(max(step.src_end - step.src_start, step.dest_end - step.dest_start))
        edits_at[step.src_start : step.src_end] += 1
    inserted = sum(runs["insert"])
    return Agreement(
        cer=(float(edits_at.sum()) + inserted) / len(stored),
        heard_ratio=len(heard) / len(stored),
        inserted=inserted / len(stored),
        deleted=sum(runs["delete"]) / len(stored),
        longest_inserted=float(max(runs["insert"])),
        worst_word=_worst_word(transcript, edits_at),
    )


def _worst_word(words: Sequence[str], edits_at: NDArray[np.float64]) -> float | None:
    ends = np.cumsum([len(word) for word in words])
    shares = [
        float(edits_at[end - len(word) : end].mean())
        for word, end in zip(words, ends.tolist(), strict=True)
        if len(word) >= MIN_WORD_LETTERS
    ]
    return max(shares, default=None)

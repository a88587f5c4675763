"""Compute signals from texts: error rates, agreement in Latin letters, repetition, speaking rate, LID votes.

A recogniser may write a language in another script than its transcripts do (Whisper writes Hindi in Urdu letters). Then
every code point differs. So both texts are also romanised by anyascii, character by character, and compared without
spaces. Repetition is a sign of a recogniser that loops, or of a transcript that was stored twice.
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
from validation.languages import to_macrolanguage
from validation.scoring.text import UNSPACED_LANGUAGES, normalise_text

EDGE_CHARS = 12
"""Number of characters in each edge of a text: about a second of speech, or two words in most languages."""


def cer(reference: str, hypothesis: str) -> float | None:
    """Return the character error rate (CER): substitutions, insertions and deletions per reference character.

    A character is a Unicode code point. Pass both texts through ``comparable_text`` first.

    Returns:
        0 for equal texts, 1 for an empty hypothesis, more than 1 for some hypotheses that are longer than the
        reference; None for an empty reference, which has no rate.
    """
    return Levenshtein.distance(reference, hypothesis) / len(reference) if reference else None


def edge_cer_start(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """Return the character error rate of the reference's first ``edge_chars`` characters, in [0, 1].

    The rate is the smallest number of edits between those characters and any beginning of the hypothesis, per
    character. It is 0 if the hypothesis begins as the reference does, whatever follows. It is high if a cut removed the
    first word, which hardly changes the CER of the whole text. None for an empty reference.
    """
    edge = reference[:edge_chars]
    if not edge:
        return None
    # A beginning of more than twice the length of the edge costs more edits than an empty beginning.
    longest = min(len(hypothesis), 2 * len(edge))
    return min(Levenshtein.distance(edge, hypothesis[:n]) for n in range(longest + 1)) / len(edge)


def edge_cer_end(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """Return the CER of the reference's last ``edge_chars`` characters: ``edge_cer_start`` of both texts reversed."""
    return edge_cer_start(reference[::-1], hypothesis[::-1], edge_chars)


def chars_per_second(text: str, duration_s: Seconds) -> float | None:
    """Return the characters of a text, without spaces, per second of audio; None if the duration is 0."""
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
    """Count the LID models that vote for and against the declared language.

    A model abstains if it gave no answer or does not know the declared language: its first choice is then no evidence
    against that language. Without a declared language all models abstain. A model votes for its first choice, whatever
    the probability; the probabilities are separate columns. Two codes with the same macrolanguage, such as ``bho`` and
    ``hi``, count as the same language.
    """
    votes = [_vote(declared, prediction) for prediction in predictions]
    return VoteCounts(votes.count(True), votes.count(False), votes.count(None))


def _vote(declared: str | None, prediction: LidPrediction) -> bool | None:
    """Return True for a vote for the declared language, False for a vote against it, and None for an abstention."""
    if declared is None or prediction.p_declared is None or prediction.top1 is None:
        return None
    return to_macrolanguage(prediction.top1) == to_macrolanguage(declared)


MAX_PERIOD = 500
"""Longest distance, in words, between a word and its repetition. It limits the computation for a transcript of an hour:
a part of more than 500 words that is stored twice is not found."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """The longest part of a text that repeats the words directly before it."""

    letters: int
    """Letters of the repeated part, without spaces; 0 without a repetition."""
    fraction: float
    """Letters of the repeated part as a share of the text's letters, in [0, 1]."""


def find_repetition(text: str, language: str | None) -> Repetition | None:
    """Find the run of words with the most letters that equals the words directly before it.

    Repetitions at a distance of more than ``MAX_PERIOD`` words are not found. In a language without spaces, each
    character counts as a word. ``a b a b`` repeats two words, ``a a a a`` three.
    Return None for a text without letters and numbers.
    """
    normal = normalise_text(text)
    words = list(normal.replace(" ", "")) if language in UNSPACED_LANGUAGES else normal.split()
    if not words:
        return None
    lengths = np.array([len(word) for word in words])
    index = {word: place for place, word in enumerate(dict.fromkeys(words))}
    ids = np.array([index[word] for word in words])
    periods = range(1, min(len(ids) // 2, MAX_PERIOD) + 1)
    longest = max((_count_repeated_letters(ids, lengths, period) for period in periods), default=0)
    return Repetition(longest, longest / int(lengths.sum()))


def compression_ratio(text: str) -> float | None:
    """Return the UTF-8 bytes of a text divided by its bytes after zlib compression; None for an empty text.

    Whisper treats a ratio above 2.4 as a failed decoding (Radford et al. 2022, section 4.5). The ratio of a text of a
    few words is below 1.
    """
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else None


def _count_repeated_letters(ids: NDArray[np.int64], lengths: NDArray[np.int64], period: int) -> int:
    """Count the letters that repeat at distance ``period``: the largest number in one run of words.

    A run consists of neighbouring words that each equal the word ``period`` places earlier. The first occurrence does
    not count: with period 2, the run in ``a b a b a`` is its last three words.

    Args:
        ids: one number per word; equal words have equal numbers.
        lengths: letters of each word.
        period: the distance between a word and its repetition, in words.

    Returns:
        The number of letters; 0 if no run has at least ``period`` words.
    """
    equal = ids[period:] == ids[:-period]
    edges = np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    before = np.concatenate([[0], np.cumsum(lengths)])
    whole = ends - starts >= period
    letters = before[ends[whole] + period] - before[starts[whole] + period]
    return int(letters.max()) if len(letters) else 0


MIN_WORD_LETTERS = 3
"""Minimum length of a word for ``Agreement.worst_word_share``. One edit changes half of a word of two letters."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the recognised text differs from the transcript, both in Latin letters: edits and lengths."""

    cer: float
    """Substitutions, insertions and deletions, per letter of the transcript."""
    heard_ratio: float
    """Letters of the recognised text, per letter of the transcript."""
    inserted: float
    """Letters that were heard and are not in the transcript, per letter of the transcript."""
    deleted: float
    """Letters of the transcript that were not heard, per letter of the transcript."""
    longest_inserted: float
    """Number of letters of the longest stretch that was heard and is not in the transcript."""
    worst_word_share: float | None
    """Share of substituted or deleted letters in the word where this share is highest, in [0, 1]; None if no word of
    the transcript has ``MIN_WORD_LETTERS`` letters."""


@lru_cache(maxsize=8192)
def romanise_word(word: str) -> str:
    """Return a normalised word in the letters a-z and digits. The result may be empty."""
    return "".join(filter(str.isalnum, anyascii(word).casefold()))


def romanise(text: str, language: str | None) -> list[str]:
    """Return the words of a text in Latin letters. In a language without spaces, each pair of characters is a word."""
    normal = normalise_text(text)
    words: Sequence[str] = normal.split()
    if language in UNSPACED_LANGUAGES:
        joined = "".join(words)
        words = [joined[start : start + 2] for start in range(0, len(joined), 2)]
    return [latin for word in words if (latin := romanise_word(word))]


def compare_romanised(transcript: Sequence[str], recognised: Sequence[str]) -> Agreement | None:
    """Compare two texts by their words from ``romanise``. Return None for a transcript without letters."""
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
        worst_word_share=_worst_word_share(transcript, edits_at),
    )


def _worst_word_share(words: Sequence[str], edits_at: NDArray[np.float64]) -> float | None:
    """Return ``Agreement.worst_word_share``. ``edits_at`` has the number of edits per letter of the joined words."""
    ends = np.cumsum([len(word) for word in words])
    shares = [
        float(edits_at[end - len(word) : end].mean())
        for word, end in zip(words, ends.tolist(), strict=True)
        if len(word) >= MIN_WORD_LETTERS
    ]
    return max(shares, default=None)

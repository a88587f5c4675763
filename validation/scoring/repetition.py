"""Repetition in a text: a sign of a recogniser that loops, or of a transcript that was stored twice."""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from validation.scoring.text import UNSPACED_LANGUAGES, normalise_text

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

"""Transcript and recognised text in Latin letters: how well they agree, whatever script each of them is written in.

A recogniser may write a language in another script than its transcripts do (Whisper writes Hindi in Urdu letters),
and then every code point differs. Both texts are romanised by anyascii, character by character, and compared without
spaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from validation.scoring.text import UNSPACED_LANGUAGES, normalise_text

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

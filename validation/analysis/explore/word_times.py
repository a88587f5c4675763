"""Estimate when each word of a transcript is spoken. Shards hold no times of words."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from validation.domain import Seconds

_EDGES = (("conformer_first_token_s", "conformer_last_token_s"), ("silero_lead_s", "silero_tail_s"))
"""Columns with the time before the first word and the time after the last word. The first pair is more precise."""


class WordTime(NamedTuple):
    """A word with its estimated start and end, in seconds from the beginning of the segment."""

    word: str
    start: Seconds
    end: Seconds


def estimate_word_times(row: Mapping[str, Any], duration: Seconds) -> list[WordTime]:
    """Divide the spoken time of a segment among the words of its transcript, in proportion to their characters.

    The spoken time excludes the time before the first and after the last word, if a model measured both.

    Args:
        row: the segment, with ``text`` and the columns of its models.
        duration: the length of the segment's audio.
    """
    lead, tail = _find_edges(row, duration)
    words = (row.get("text") or "").split()
    unit = (duration - lead - tail) / max(sum(map(_weigh, words)), 1)
    return list(_place_words(words, lead, unit))


def _find_edges(row: Mapping[str, Any], duration: Seconds) -> tuple[Seconds, Seconds]:
    """Return the seconds before the first word and after the last word; zeros if no model measured both."""
    for first, last in _EDGES:
        lead, tail = row.get(first), row.get(last)
        if lead is not None and tail is not None and lead + tail < duration:
            return lead, tail
    return 0.0, 0.0


def _place_words(words: list[str], start: Seconds, unit: Seconds) -> Iterator[WordTime]:
    """Yield the words one after the other from ``start``. ``unit`` is the seconds per unit of weight."""
    for word in words:
        end = start + unit * _weigh(word)
        yield WordTime(word, start, end)
        start = end


def _weigh(word: str) -> int:
    """Return the weight of a word: its characters, and one for the gap to the next word."""
    return len(word) + 1

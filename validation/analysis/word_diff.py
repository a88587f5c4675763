"""Compare two transcripts word by word: find the equal words, and the words that only one transcript has."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from validation.scoring.text import normalise_text

Kind = Literal["same", "stored", "heard"]


class WordRun(NamedTuple):
    """Consecutive words that both texts have (``same``), or that only the ``stored`` or the ``heard`` text has."""

    kind: Kind
    words: str


def diff_words(stored: str, heard: str) -> Iterator[WordRun]:
    """Compare two texts word by word, and yield runs of words in the order of the texts.

    Words are compared after ``normalise_text``, but yielded in their original spelling. A run of kind ``same`` has the
    spelling of the stored text.
    """
    first, second = stored.split(), heard.split()
    matcher = SequenceMatcher(None, _normalize(first), _normalize(second), autojunk=False)
    for kind, start, end, heard_start, heard_end in matcher.get_opcodes():
        if kind == "equal":
            yield WordRun("same", " ".join(first[start:end]))
            continue
        if start < end:
            yield WordRun("stored", " ".join(first[start:end]))
        if heard_start < heard_end:
            yield WordRun("heard", " ".join(second[heard_start:heard_end]))


def _normalize(words: list[str]) -> list[str]:
    return [normalise_text(word) or word for word in words]

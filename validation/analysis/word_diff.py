"""The words of two texts side by side: which are equal, and which one text has alone."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from validation.scoring.text import normalise_text

Kind = Literal["same", "stored", "heard"]


class WordRun(NamedTuple):
    """Words that follow one another, and which text has them."""

    kind: Kind
    words: str


def diff_words(stored: str, heard: str) -> Iterator[WordRun]:
    """Compare two texts word by word in their normal form; the words are yielded as the texts spell them.

    Equal words are spelled as the stored text spells them.
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

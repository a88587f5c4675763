"""Stored transcripts as the tokens that IndicConformer would write for them."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from math import inf

from validation.models.ctc import WILDCARD

_WORD_START = "▁"


@dataclass(frozen=True, slots=True)
class TokenizedTranscript:
    """A transcript in tokens."""

    tokens: tuple[int, ...]
    """Local ids, with ``WILDCARD`` for a stretch that the vocabulary cannot spell; never two of those in a row."""
    words: tuple[int, ...]
    """The ordinal of each token's word; -1 for a wildcard."""
    covered: float | None
    """Share of the letters, marks and digits that the tokens spell; digits are wildcards. None without any of these."""

    @property
    def known_tokens(self) -> int:
        """Number of tokens without the wildcards."""
        return sum(token != WILDCARD for token in self.tokens)


class SubwordTokenizer:
    """Tokenizes transcripts of one language into its pieces.

    The published model has no tokenizer file, only the list of pieces. If that list is a byte-pair vocabulary in the
    order of its merges, merging in that order restores the tokenizer's own spelling; a list is one if merging the
    characters of every piece leads back to that piece. Otherwise a word gets its spelling of the fewest pieces. Any
    spelling is a legal CTC target, but the model gives its own the highest probability.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        self._pieces = tuple(pieces)
        self._ids = {piece: token for token, piece in enumerate(pieces) if token > 0}
        letters = frozenset("".join(self._ids)) - {_WORD_START}
        # The model writes number words where a transcript has digits, so digits of every script become wildcards.
        self._alphabet = frozenset(letter for letter in letters if unicodedata.category(letter) != "Nd")
        self.is_byte_pair = all(self._merge(piece) == [token] for piece, token in self._ids.items())
        self._split = lru_cache(maxsize=1 << 14)(self._split_word)

    def tokenize(self, text: str) -> TokenizedTranscript:
        """Tokenize a transcript without its punctuation, which is not spoken and which the model never writes."""
        tokens: list[int] = []
        words: list[int] = []
        covered = spoken = 0
        for number, word in enumerate(split_into_words(text, self._alphabet)):
            spoken += len(word)
            for known, letters in self._stretches(word):
                if known:
                    own = self._split(letters)
                    tokens += own
                    words += [number] * len(own)
                    covered += len(letters.removeprefix(_WORD_START))
                elif not tokens or tokens[-1] != WILDCARD:
                    tokens.append(WILDCARD)
                    words.append(-1)
        return TokenizedTranscript(tuple(tokens), tuple(words), covered / spoken if spoken else None)

    def _stretches(self, word: str) -> Iterator[tuple[bool, str]]:
        """Split a word into stretches with and without a spelling; the first stretch begins the word."""
        lead = _WORD_START
        for known, letters in groupby(word, key=self._alphabet.__contains__):
            stretch = lead + "".join(letters)
            yield known and bool(self._split(stretch)), stretch
            lead = ""

    def _split_word(self, letters: str) -> tuple[int, ...]:
        """Split into pieces; empty if the pieces, joined again, are not the letters."""
        merged = self._merge(letters) if self.is_byte_pair else None
        tokens = merged if merged is not None else self._fewest_pieces(letters)
        return tuple(tokens) if "".join(self._pieces[token] for token in tokens) == letters else ()

    def _merge(self, letters: str) -> list[int] | None:
        """Merge the pair that makes the earliest piece, until no pair makes one; None if a letter is left over."""
        parts = list(letters)
        while True:
            made = [self._ids.get(left + right, inf) for left, right in pairwise(parts)]
            earliest = min(made, default=inf)
            if earliest == inf:
                break
            at = made.index(earliest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        tokens = [self._ids.get(part) for part in parts]
        return None if None in tokens else [token for token in tokens if token is not None]

    def _fewest_pieces(self, letters: str) -> list[int]:
        """Find the spelling of the fewest pieces, among those the one with the longest first pieces; [] without any."""
        longest = max(map(len, self._ids))
        best: list[tuple[int, list[int]] | None] = [None] * len(letters) + [(0, [])]
        for start in reversed(range(len(letters))):
            for stop in range(min(len(letters), start + longest), start, -1):
                token, rest = self._ids.get(letters[start:stop]), best[stop]
                if token is None or rest is None:
                    continue
                here = best[start]
                if here is None or rest[0] + 1 < here[0]:
                    best[start] = (rest[0] + 1, [token, *rest[1]])
        found = best[0]
        return found[1] if found else []


def split_into_words(text: str, alphabet: frozenset[str]) -> list[str]:
    """Split a transcript into words of letters, marks and numbers, and of joiners that the alphabet has."""
    kept = (
        character if _is_spoken(character, alphabet) else _separator(character)
        for character in unicodedata.normalize("NFC", text)
    )
    return "".join(kept).split()


def _is_spoken(character: str, alphabet: frozenset[str]) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMN" or (category == "Cf" and character in alphabet)


def _separator(character: str) -> str:
    """A character that is not spoken separates words, except a format character, which has no width."""
    return "" if unicodedata.category(character) == "Cf" else " "

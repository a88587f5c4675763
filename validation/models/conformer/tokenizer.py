"""Read the vocabulary of IndicConformer, and tokenize stored transcripts as IndicConformer would write them."""

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby, pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validation.errors import BadInput
from validation.languages import normalize_language_code
from validation.models.ctc import WILDCARD

PIECES = 256
"""The number of subword pieces per language. ``<unk>`` is the first. The blank, which all languages share, follows."""
BLANK = PIECES
"""The index of the blank among a language's own 257 columns."""


class VocabularyRefused(BadInput):
    """The vocabulary, the masks and the network do not fit each other.

    Token ids are local to a language. With a wrong mask every transcript would be tokenized in the pieces of another
    language, and every right transcript would look wrong.
    """

    def __init__(self, folder: Path, fault: str) -> None:
        self.folder, self.fault = folder, fault
        super().__init__(f"the vocabulary in {folder} does not fit the network: {fault}: download the repository again")


@dataclass(frozen=True)
class Vocabulary:
    """The pieces and columns of all languages, in the order of the head's columns."""

    languages: tuple[str, ...]
    """The normalised codes of the languages."""
    pieces: Mapping[str, tuple[str, ...]]
    """The ``PIECES`` pieces of each language, in the order of their ids. U+2581 marks the beginning of a word."""
    columns: NDArray[np.int64]
    """(L, 257) columns of the head: for each language the columns of its pieces, then the column of the blank."""

    @cached_property
    def index_of(self) -> Mapping[str, int]:
        """The index of each language in ``languages``."""
        return {language: index for index, language in enumerate(self.languages)}

    def decode(self, language: str, tokens: Sequence[int]) -> str:
        """Decode token ids of a language, without blanks, to text; ``<unk>`` becomes SentencePiece's ``⁇``."""
        text = "".join(self.pieces[language][token] for token in tokens)
        return text.replace("▁", " ").replace("<unk>", "⁇").strip()


def read_vocabulary(assets: Path, width: int) -> Vocabulary:
    """Read ``vocab.json`` and ``language_masks.json``, and check them against each other and against the head.

    Args:
        assets: the folder of both files.
        width: the number of columns of the head.

    Raises:
        VocabularyRefused: the files do not fit each other or the head. The message states the difference.
    """
    piece_lists, masks = _read_object(assets, "vocab.json"), _read_object(assets, "language_masks.json")
    if piece_lists.keys() != masks.keys() or not masks:
        odd = sorted(piece_lists.keys() ^ masks.keys())
        raise VocabularyRefused(assets, f"vocab.json and language_masks.json differ in the languages {', '.join(odd)}")
    columns = {label: _read_columns(assets, label, mask, width) for label, mask in masks.items()}
    labels = sorted(columns, key=lambda label: int(columns[label][0]))
    languages = tuple(_normalise_label(assets, label) for label in labels)
    pieces = {
        language: _read_pieces(assets, label, piece_lists[label])
        for language, label in zip(languages, labels, strict=True)
    }
    stacked = np.stack([columns[label] for label in labels])
    _refuse_overlap(assets, labels, stacked)
    return Vocabulary(languages, pieces, stacked)


def _read_columns(assets: Path, label: str, mask: Sequence[bool], width: int) -> NDArray[np.int64]:
    """Return the (257,) columns of the head that the mask of a language selects; the blank comes last."""
    columns = np.flatnonzero(np.asarray(mask, dtype=bool))
    if len(mask) != width or len(columns) != PIECES + 1:
        fault = (
            f"the mask of {label} takes {len(columns)} of {len(mask)} columns, not {PIECES + 1} of the head's {width}"
        )
        raise VocabularyRefused(assets, fault)
    if columns[-1] != width - 1:
        raise VocabularyRefused(assets, f"the mask of {label} does not end with the blank, the head's last column")
    return columns.astype(np.int64)


def _read_pieces(assets: Path, label: str, listed: Sequence[str]) -> tuple[str, ...]:
    """Read the pieces of a language. The published lists have one more entry, at the index of the blank."""
    pieces = tuple(listed[:PIECES])
    if len(listed) not in (PIECES, PIECES + 1) or len(set(pieces)) != PIECES or pieces[0] != "<unk>":
        raise VocabularyRefused(
            assets, f"{label} has {len(listed)} entries, not <unk> and {PIECES - 1} different pieces"
        )
    return pieces


def _refuse_overlap(assets: Path, labels: Sequence[str], columns: NDArray[np.int64]) -> None:
    """Raise ``VocabularyRefused`` if two languages share a column other than the blank."""
    owned, owners = np.unique(columns[:, :BLANK], return_counts=True)
    if len(owned) < columns[:, :BLANK].size:
        shared = int(owned[owners > 1][0])
        both = [label for label, own in zip(labels, columns, strict=True) if shared in own]
        raise VocabularyRefused(assets, f"the masks of {' and '.join(both)} both take column {shared}")


def _normalise_label(assets: Path, label: str) -> str:
    """Return the normalised code of a language label; raise ``VocabularyRefused`` for an unknown label."""
    code = normalize_language_code(label)
    if code is None:
        raise VocabularyRefused(assets, f"{label} is not a language code of ISO 639")
    return code


def _read_object(assets: Path, name: str) -> dict[str, Any]:
    """Read a file that must hold a JSON object."""
    content = json.loads((assets / name).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise VocabularyRefused(assets, f"{name} does not hold a JSON object")
    return content


_WORD_START = "▁"


@dataclass(frozen=True, slots=True)
class TokenizedTranscript:
    """The tokens of one transcript, and the words to which they belong."""

    tokens: tuple[int, ...]
    """Token ids. A ``WILDCARD`` replaces a stretch that the vocabulary cannot spell; wildcards are never adjacent."""
    words: tuple[int, ...]
    """The index of the word of each token; -1 for a wildcard."""
    covered: float | None
    """The share of letters, marks and digits that the tokens spell; wildcards spell none. None for a text without
    any."""

    @property
    def known_tokens(self) -> int:
        """The number of tokens that are not wildcards."""
        return sum(token != WILDCARD for token in self.tokens)


class SubwordTokenizer:
    """A tokenizer that splits transcripts of one language into the pieces of that language.

    The published model has no tokenizer file, only the list of pieces. If that list is a byte-pair vocabulary in the
    order of its merges, merging in that order gives the tokens of the model's own tokenizer. A list counts as such a
    vocabulary if merging the characters of every piece gives that piece. For other lists a word gets the fewest pieces.
    Any pieces that form the word are a valid CTC target, but those of the model's own tokenizer are the likeliest.
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
        """Tokenize a transcript. Punctuation is left out, because it is not spoken and the model never writes it."""
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
        """Yield the stretches of a word, each after whether pieces can form it. U+2581 precedes the first stretch."""
        lead = _WORD_START
        for known, letters in groupby(word, key=self._alphabet.__contains__):
            stretch = lead + "".join(letters)
            yield known and bool(self._split(stretch)), stretch
            lead = ""

    def _split_word(self, letters: str) -> tuple[int, ...]:
        """Split letters into token ids; return () if the joined pieces do not equal the letters."""
        merged = self._merge(letters) if self.is_byte_pair else None
        tokens = merged if merged is not None else self._fewest_pieces(letters)
        return tuple(tokens) if "".join(self._pieces[token] for token in tokens) == letters else ()

    def _merge(self, letters: str) -> list[int] | None:
        """Merge the pair that forms the earliest piece until no pair forms one; return None if a part is no piece."""
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
        """Split letters into the fewest pieces, with the longest first piece on a tie; return [] if impossible."""
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
    """Split a transcript into words. Words keep letters, marks, numbers, and format characters of the alphabet."""
    kept = (
        character if _is_spoken(character, alphabet) else _separator(character)
        for character in unicodedata.normalize("NFC", text)
    )
    return "".join(kept).split()


def _is_spoken(character: str, alphabet: frozenset[str]) -> bool:
    """Return whether words keep a character: a letter, mark, number, or a format character of the alphabet."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or (category == "Cf" and character in alphabet)


def _separator(character: str) -> str:
    """Return the replacement of a character that is not spoken: a space, or nothing for a format character."""
    return "" if unicodedata.category(character) == "Cf" else " "

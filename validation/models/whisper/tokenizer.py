"""Text to Whisper's tokens and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from validation.models.casing import join_words, split_words
from validation.models.languages import canonical
from validation.scoring.text import UNSPACED_LANGUAGES, has_digits

_FIRST_MERGE = "Ġ t"
"""Byte-pair rule 0 of Whisper's multilingual vocabulary, in the file's notation: a space and a ``t``."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One way to write a transcript, as tokens."""

    tokens: tuple[int, ...]
    word_ends: tuple[int, ...]
    """Where each word ends, as an index into ``tokens``: strictly rising, the last is their number."""


class WhisperTokenizer:
    """Whisper's tokenizer, and the special tokens that steer its decoder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps(repair_merges(_read_json(folder / "tokenizer.json"))))
        self._tokenizer.encode_special_tokens = True  # a transcript that says <|endoftext|> says just that
        self._end_of_text = self._special("endoftext")
        spoken = _read_json(folder / "config.json")["lang_ids"]
        labels = [str(self._tokenizer.id_to_token(token)) for token in spoken]
        self.language_of_label: Mapping[str, str] = {
            label: code for label in labels if (code := canonical(label.strip("<|>")))
        }
        """``<|hi|>`` -> ``hi``, for every language that Whisper names."""
        self._label_of_language = {code: label for label, code in self.language_of_label.items()}
        self.numerals: tuple[int, ...] = tuple(
            token for token in range(self._end_of_text) if has_digits(self._tokenizer.decode([token]))
        )
        """Every text token that holds a digit."""

    def start_of(self, language: str) -> list[int]:
        """Begin a transcript of speech in a language that Whisper knows, up to the wish for timestamps."""
        label = self._label_of_language[language]
        return [self._special("startoftranscript"), self._id_of(label), self._special("transcribe")]

    def prompt_for(self, language: str) -> list[int]:
        """Begin a transcript without timestamps."""
        return [*self.start_of(language), self._special("notimestamps")]

    def spell(self, text: str, language: str) -> TokenizedText:
        """Write a transcript, not empty, as Whisper writes one: after a space, where the language has spaces."""
        spaced = language not in UNSPACED_LANGUAGES
        words = split_words(text, spaced=spaced)
        lead = " " if spaced else ""
        encoding = self._tokenizer.encode(lead + join_words(words, spaced=spaced), add_special_tokens=False)
        return TokenizedText(tuple(encoding.ids), _find_word_ends(encoding.offsets, words, len(lead)))

    def read(self, tokens: Sequence[int]) -> str:
        """Read a transcript back, with the space that it may begin with."""
        return str(self._tokenizer.decode([token for token in tokens if token < self._end_of_text]))

    def _special(self, name: str) -> int:
        return self._id_of(f"<|{name}|>")

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return int(found)


def repair_merges(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Put back the merge that the published ``tokenizer.json`` lost, if it is missing; returns the same object.

    The first rule of Whisper's merge list, a space with ``t``, fell to a reader that took the first line for a
    comment. Without it `` then`` becomes two tokens that Whisper never saw side by side, and a right transcript
    with a few such words looks very unlikely: 15 nats for a single `` then``.
    """
    match tokenizer:
        case {"model": {"merges": list(merges)}} if merges and merges[0] != _FIRST_MERGE:
            merges.insert(0, _FIRST_MERGE)
    return tokenizer


def _find_word_ends(offsets: Sequence[tuple[int, int]], words: Sequence[str], lead: int) -> tuple[int, ...]:
    """Assign tokens to words by the characters that they come from.

    Args:
        offsets: each token's span in the encoded text; parts of one character share its span.
        words: the words of the text; ``lead`` characters stand before each of them.
        lead: 1 where words follow a space, else 0.
    """
    ends: list[int] = []
    word_stop = token = 0
    for word in words:
        word_stop += lead + len(word)
        while token < len(offsets) and offsets[token][1] <= word_stop:
            token += 1
        if token > (ends[-1] if ends else 0):
            ends.append(token)
    return tuple(ends)


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{path} holds no object")
    return content

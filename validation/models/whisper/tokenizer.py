"""Text to Whisper's tokens and back, and transcripts in the case and punctuation that Whisper would write."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from validation.languages import normalize_language_code
from validation.scoring.text import UNSPACED_LANGUAGES, has_digits, normalise_text

_SPACE = "Ġ"
"""A space in the notation of Whisper's vocabulary."""
_FIRST_MERGE = f"{_SPACE} t"
"""Byte-pair rule 0 of Whisper's multilingual vocabulary, in the file's notation: a space and a ``t``."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """One spelling of a transcript, as tokens."""

    tokens: tuple[int, ...]
    word_ends: tuple[int, ...]
    """The end of each word as an index into ``tokens``: strictly rising, the last is their number."""
    words: tuple[str, ...]
    """One for each of ``word_ends``."""


class WhisperTokenizer:
    """Whisper's tokenizer, and the special tokens that steer its decoder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps(repair_merges(_read_json(folder / "tokenizer.json"))))
        self._tokenizer.encode_special_tokens = True  # <|endoftext|> in a transcript is text, not a special token
        self._end_of_text = self._special("endoftext")
        language_tokens = _read_json(folder / "config.json")["lang_ids"]
        labels = [str(self._tokenizer.id_to_token(token)) for token in language_tokens]
        self.language_of_label: Mapping[str, str] = {
            label: code for label in labels if (code := normalize_language_code(label.strip("<|>")))
        }
        """``<|hi|>`` -> ``hi``, for every language of Whisper."""
        self._label_of_language = {code: label for label, code in self.language_of_label.items()}
        self.numerals: tuple[int, ...] = tuple(
            token for token in range(self._end_of_text) if has_digits(self._tokenizer.decode([token]))
        )
        """Every text token with a digit."""

    def start_of(self, language: str) -> list[int]:
        """The tokens before a transcript in a language of Whisper, without the choice of timestamps."""
        label = self._label_of_language[language]
        return [self._special("startoftranscript"), self._id_of(label), self._special("transcribe")]

    def prompt_for(self, language: str) -> list[int]:
        """The tokens before a transcript without timestamps."""
        return [*self.start_of(language), self._special("notimestamps")]

    def tokenize(self, text: str, language: str) -> TokenizedText:
        """Tokenize a transcript, not empty, as Whisper writes one: after a space, if the language has spaces."""
        spaced = language not in UNSPACED_LANGUAGES
        words = split_words(text, spaced=spaced)
        lead = " " if spaced else ""
        encoding = self._tokenizer.encode(lead + join_words(words, spaced=spaced), add_special_tokens=False)
        ends = _find_word_ends(encoding.offsets, words, len(lead))
        return TokenizedText(tuple(encoding.ids), tuple(ends.values()), tuple(words[place] for place in ends))

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode a transcript, with the space that it may begin with."""
        return str(self._tokenizer.decode([token for token in tokens if token < self._end_of_text]))

    def split_tokens(self, tokens: Sequence[int], language: str) -> TokenizedText | None:
        """Assign tokens that Whisper wrote, which need not be those of ``tokenize``, to the words that they spell.

        None without a word, and in a language without spaces for tokens that ``tokenize`` would not choose.
        """
        if language in UNSPACED_LANGUAGES:
            text = self.decode(tokens).strip()
            tokenized = self.tokenize(text, language) if normalise_text(text) else None
            return tokenized if tokenized and tokenized.tokens == tuple(tokens) else None
        ends: list[int] = []
        words: list[str] = []
        starts = [place for place, token in enumerate(tokens) if not place or self._starts_word(token)]
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            word = self.decode(tokens[start:end]).strip()
            if words and not (normalise_text(word) and normalise_text(words[-1])):
                ends[-1], words[-1] = end, join_words([words[-1], word], spaced=True)
            else:
                ends.append(end)
                words.append(word)
        return TokenizedText(tuple(tokens), tuple(ends), tuple(words)) if normalise_text("".join(words)) else None

    def _starts_word(self, token: int) -> bool:
        return str(self._tokenizer.id_to_token(token)).startswith(_SPACE)

    def _special(self, name: str) -> int:
        return self._id_of(f"<|{name}|>")

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return int(found)


def repair_merges(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Insert the merge rule that the published ``tokenizer.json`` lacks, if it is missing; returns the same object.

    A converter took the first rule of Whisper's merge list, a space with ``t``, for a comment. Without it `` then``
    becomes two tokens that Whisper never saw side by side, and a right transcript with a few such words looks very
    unlikely: 15 nats for a single `` then``.
    """
    match tokenizer:
        case {"model": {"merges": list(merges)}} if merges and merges[0] != _FIRST_MERGE:
            merges.insert(0, _FIRST_MERGE)
    return tokenizer


def split_words(text: str, *, spaced: bool) -> list[str]:
    """Split a text into words, or into characters in a script without spaces.

    A piece without letter and number (a dash, a danda by itself) is attached to the word before it, or to the word
    after it at the beginning.

    Returns:
        Words without surrounding space; ``join_words`` restores the text. Only a text without any letter and number
        gives a word without one.
    """
    words: list[str] = []
    for piece in text.split() if spaced else "".join(text.split()):
        if words and not (normalise_text(piece) and normalise_text(words[-1])):
            words[-1] = join_words([words[-1], piece], spaced=spaced)
        else:
            words.append(piece)
    return words


def join_words(words: list[str], *, spaced: bool) -> str:
    return (" " if spaced else "").join(words)


def transfer_casing(transcript: str, recognised: str, *, spaced: bool) -> str:
    """Give a transcript the case and punctuation of the recognised text, wherever both have the same words.

    A recogniser finds ``and mister dashwood`` unlikely where it would itself write ``And Mister Dashwood,``, although
    every word was said. Other words stay as the transcript has them, so a transcript of other speech hardly changes.
    """
    stored, heard = split_words(transcript, spaced=spaced), split_words(recognised, spaced=spaced)
    matcher = SequenceMatcher(None, _normalised(stored), _normalised(heard), autojunk=False)
    words: list[str] = []
    for kind, start, stop, heard_start, heard_stop in matcher.get_opcodes():
        words += heard[heard_start:heard_stop] if kind == "equal" else stored[start:stop]
    return join_words(words, spaced=spaced)


def _normalised(words: list[str]) -> list[str]:
    return [normalise_text(word) for word in words]


def _find_word_ends(offsets: Sequence[tuple[int, int]], words: Sequence[str], lead: int) -> dict[int, int]:
    """Assign tokens to words by the characters that they come from: the end of each word that has a token of its own.

    Args:
        offsets: each token's span in the encoded text; the tokens of one character share its span.
        words: the words of the text; ``lead`` characters stand before each of them.
        lead: 1 where words follow a space, else 0.
    """
    ends: dict[int, int] = {}
    word_stop = token = last = 0
    for place, word in enumerate(words):
        word_stop += lead + len(word)
        while token < len(offsets) and offsets[token][1] <= word_stop:
            token += 1
        if token > last:
            ends[place] = last = token
    return ends


def _read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{path} does not hold a JSON object")
    return content

"""Convert text to Whisper's tokens and back, and give transcripts the case and punctuation that Whisper would write."""

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
"""The first byte-pair merge of Whisper's multilingual vocabulary, as its file has it: a space and a ``t``."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of one spelling of a text, and the words that the tokens form."""

    tokens: tuple[int, ...]
    word_ends: tuple[int, ...]
    """The end of each word as an index into ``tokens``, in ascending order. The last end is the number of tokens."""
    words: tuple[str, ...]
    """The words, one per item of ``word_ends``."""


class WhisperTokenizer:
    """Whisper's tokenizer, and the special tokens that steer its decoder."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_str(json.dumps(repair_merges(_read_json(folder / "tokenizer.json"))))
        self._tokenizer.encode_special_tokens = True  # <|endoftext|> in a transcript is text, not a special token
        self._end_of_text = self._special_token_id("endoftext")
        language_tokens = _read_json(folder / "config.json")["lang_ids"]
        labels = [str(self._tokenizer.id_to_token(token)) for token in language_tokens]
        self.language_of_label: Mapping[str, str] = {
            label: code for label in labels if (code := normalize_language_code(label.strip("<|>")))
        }
        """The code of every language of Whisper, by label: ``hi`` for ``<|hi|>``."""
        self._label_of_language = {code: label for label, code in self.language_of_label.items()}
        self.numerals: tuple[int, ...] = tuple(
            token for token in range(self._end_of_text) if has_digits(self._tokenizer.decode([token]))
        )
        """The ids of all text tokens that contain a digit."""

    def start_of(self, language: str) -> list[int]:
        """Return the special tokens before a transcript in a language of Whisper, except the one for timestamps."""
        label = self._label_of_language[language]
        return [
            self._special_token_id("startoftranscript"),
            self._token_id(label),
            self._special_token_id("transcribe"),
        ]

    def prompt_for(self, language: str) -> list[int]:
        """Return all special tokens before a transcript without timestamps."""
        return [*self.start_of(language), self._special_token_id("notimestamps")]

    def tokenize(self, text: str, language: str) -> TokenizedText:
        """Tokenize a transcript that is not empty. A space precedes it if the language has spaces, as in Whisper."""
        spaced = language not in UNSPACED_LANGUAGES
        words = split_words(text, spaced=spaced)
        lead = " " if spaced else ""
        encoding = self._tokenizer.encode(lead + join_words(words, spaced=spaced), add_special_tokens=False)
        ends = _find_word_ends(encoding.offsets, words, len(lead))
        return TokenizedText(tuple(encoding.ids), tuple(ends.values()), tuple(words[place] for place in ends))

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode the text tokens among ``tokens``. The text may begin with a space."""
        return str(self._tokenizer.decode([token for token in tokens if token < self._end_of_text]))

    def split_tokens(self, tokens: Sequence[int], language: str) -> TokenizedText | None:
        """Assign the tokens of a text that Whisper wrote to the words of the text.

        Whisper may write other tokens than ``tokenize`` would choose for the same text.

        Returns:
            The tokens with their words. None if the text has no word, or if the language has no spaces and the tokens
            are not those of ``tokenize``.
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
        """Return whether a token begins with a space."""
        return str(self._tokenizer.id_to_token(token)).startswith(_SPACE)

    def _special_token_id(self, name: str) -> int:
        """Return the id of a special token: ``endoftext`` is the name of ``<|endoftext|>``."""
        return self._token_id(f"<|{name}|>")

    def _token_id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no token {token}")
        return int(found)


def repair_merges(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Insert the merge rule that the published ``tokenizer.json`` lacks, if it is missing; return the same object.

    A converter mistook the first rule of Whisper's merge list, a space and ``t``, for a comment. Without this rule
    `` then`` becomes two tokens that Whisper never saw side by side. A right transcript with a few such words then
    looks very unlikely: a single `` then`` costs 15 nats.
    """
    match tokenizer:
        case {"model": {"merges": list(merges)}} if merges and merges[0] != _FIRST_MERGE:
            merges.insert(0, _FIRST_MERGE)
    return tokenizer


def split_words(text: str, *, spaced: bool) -> list[str]:
    """Split a text into words, or into characters in a script without spaces.

    A dash, a danda or another part without a letter or number is joined to the word before it. At the beginning of the
    text it is joined to the word after it.

    Returns:
        Words without surrounding spaces. ``join_words`` restores the text. Every word has a letter or number, unless
        the whole text has none.
    """
    words: list[str] = []
    for part in text.split() if spaced else "".join(text.split()):
        if words and not (normalise_text(part) and normalise_text(words[-1])):
            words[-1] = join_words([words[-1], part], spaced=spaced)
        else:
            words.append(part)
    return words


def join_words(words: list[str], *, spaced: bool) -> str:
    """Join words with spaces, or without spaces if ``spaced`` is False."""
    return (" " if spaced else "").join(words)


def transfer_casing(transcript: str, recognised: str, *, spaced: bool) -> str:
    """Give a transcript the case and punctuation of the recognised text, wherever both have the same words.

    A recogniser that would write ``And Mister Dashwood,`` finds ``and mister dashwood`` unlikely, although every word
    was said. Words that only the transcript has stay unchanged, so a transcript of other speech hardly changes.
    """
    stored, heard = split_words(transcript, spaced=spaced), split_words(recognised, spaced=spaced)
    matcher = SequenceMatcher(None, _normalise_words(stored), _normalise_words(heard), autojunk=False)
    words: list[str] = []
    for kind, start, stop, heard_start, heard_stop in matcher.get_opcodes():
        words += heard[heard_start:heard_stop] if kind == "equal" else stored[start:stop]
    return join_words(words, spaced=spaced)


def _normalise_words(words: list[str]) -> list[str]:
    return [normalise_text(word) for word in words]


def _find_word_ends(offsets: Sequence[tuple[int, int]], words: Sequence[str], lead: int) -> dict[int, int]:
    """Find the end of each word in the tokens, by the characters of each token.

    Args:
        offsets: each token's span of characters in the encoded text; the tokens of one character share its span.
        words: the words of the text; ``lead`` characters precede each word.
        lead: 1 if words follow a space, else 0.

    Returns:
        The end of each word as a token index, by the index of the word. Words without a token of their own are left
        out.
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

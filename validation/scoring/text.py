"""Text made comparable: what two spellings of the same speech have in common."""

import unicodedata

NORMALISATION = "1"
"""Version of ``normalise_text``, written into every shard. A change of any output is a new version."""

UNSPACED_LANGUAGES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages that put no spaces between words: a space in their transcripts is the writer's taste."""

_INVISIBLE_MARKS = frozenset({0x034F, *range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)})
"""Grapheme joiners and variation selectors: marks (category M) that choose a glyph and spell nothing."""


class _CharacterMap(dict[int, str]):
    """What one character becomes, found once and kept. ``str.translate`` asks it by code point."""

    def __missing__(self, code_point: int) -> str:
        character = chr(code_point)
        category = unicodedata.category(character)
        if category == "Cf" or code_point in _INVISIBLE_MARKS:
            target = ""
        elif category == "Nd":
            target = str(unicodedata.decimal(character))
        else:
            target = character if category[0] in "LMN" else " "
        self[code_point] = target
        return target


_CHARACTERS = _CharacterMap()


def normalise_text(text: str) -> str:
    """Reduce a transcript to the letters, marks and numbers that are spoken.

    After NFC: format characters vanish (zero-width joiners and spaces, byte order marks, soft hyphens,
    variation selectors); decimal digits of every script become ASCII; everything that is neither letter, mark
    nor number (danda, punctuation, symbols, controls) becomes a space; case is folded; the result is in NFC,
    with single spaces between words and none around them.

    Idempotent, and total: any string has a normal form, perhaps the empty one. Two canonically equivalent
    strings have the same. A character that Python's Unicode tables do not know yet counts as a space.
    """
    kept = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    # Folding the decomposed form is what makes the result stable: Unicode 15.0, section 3.13, D145.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", kept).casefold())
    return " ".join(folded.split())


def comparable_text(text: str, language: str | None) -> str:
    """Normalise a text for comparison by character: without spaces where the language writes none."""
    normal = normalise_text(text)
    return normal.replace(" ", "") if language in UNSPACED_LANGUAGES else normal


def has_digits(text: str) -> bool:
    """Say whether a text spells numbers in digits of any script, so that CER may punish a right answer."""
    return any(character.isdecimal() for character in text)

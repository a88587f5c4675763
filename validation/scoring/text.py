"""Normalise texts for comparison, and measure the share of letters in the scripts of a language."""

import unicodedata
from functools import cache

import regex

NORMALISATION_VERSION = "1"
"""Version of ``normalise_text``, written into every shard. Any change of its output needs a new version."""

UNSPACED_LANGUAGES = frozenset({"bo", "ja", "km", "lo", "my", "th", "yue", "zh"})
"""Languages written without spaces between words. A space in their transcripts carries no meaning."""

_INVISIBLE_MARKS = frozenset({0x034F, *range(0x180B, 0x180E), 0x180F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)})
"""Grapheme joiners and variation selectors: marks (category M) that select a glyph and represent no sound."""


class _CharacterMap(dict[int, str]):
    """Maps each code point to its replacement, which is computed at its first use. For ``str.translate``."""

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

    After NFC, format characters are removed (zero-width joiners and spaces, byte order marks, soft hyphens, variation
    selectors); decimal digits of every script become ASCII; every character that is neither letter, mark nor number
    (danda, punctuation, symbols, controls) becomes a space; case is folded. The result is in NFC, with single spaces
    between words and none around them.

    Idempotent. Every string has a normal form, possibly empty; canonically equivalent strings have the same one. A
    character that Python's Unicode tables do not know counts as a space.
    """
    kept = unicodedata.normalize("NFC", text).translate(_CHARACTERS)
    # Only folding the decomposed form makes the result stable: Unicode 15.0, section 3.13, D145.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", kept).casefold())
    return " ".join(folded.split())


def comparable_text(text: str, language: str | None) -> str:
    """Normalise a text for comparison by character; remove spaces if the language is written without spaces."""
    normal = normalise_text(text)
    return normal.replace(" ", "") if language in UNSPACED_LANGUAGES else normal


def has_digits(text: str) -> bool:
    """Return whether a text has decimal digits of any script.

    The CER of such a text is high even if the recogniser was right, because digits may be spoken as words.
    """
    return any(character.isdecimal() for character in text)


LANGUAGE_SCRIPTS: dict[str, frozenset[str]] = {
    language: frozenset(scripts)
    for language, *scripts in (
        ("as", "Bengali"),
        ("bn", "Bengali"),
        ("brx", "Devanagari"),
        ("de", "Latin"),
        ("doi", "Devanagari"),
        ("en", "Latin"),
        ("es", "Latin"),
        ("fr", "Latin"),
        ("gu", "Gujarati"),
        ("hi", "Devanagari"),
        ("it", "Latin"),
        ("ja", "Han", "Hiragana", "Katakana"),
        ("kn", "Kannada"),
        ("kok", "Devanagari"),
        ("ks", "Arabic", "Devanagari"),
        ("mai", "Devanagari"),
        ("ml", "Malayalam"),
        ("mni", "Bengali", "Meetei_Mayek"),
        ("mr", "Devanagari"),
        ("ne", "Devanagari"),
        ("or", "Oriya"),
        ("pa", "Gurmukhi"),
        ("pt", "Latin"),
        ("ru", "Cyrillic"),
        ("sa", "Devanagari"),
        ("sat", "Ol_Chiki"),
        ("sd", "Arabic", "Devanagari"),
        ("ta", "Tamil"),
        ("te", "Telugu"),
        ("ur", "Arabic"),
        ("zh", "Han"),
    )
}
"""The scripts, by their Unicode names, that a transcript in a language may use."""

_LATIN = frozenset({"Latin"})


def script_fraction(text: str, language: str | None) -> float | None:
    """Return the share of a text's letters, in [0, 1], that belong to a script of the language.

    Marks, digits and punctuation are not counted, because scripts share them. Return None for a text without letters,
    for no language, and for a language that ``LANGUAGE_SCRIPTS`` lacks.
    """
    scripts = LANGUAGE_SCRIPTS.get(language or "")
    return _letter_share(text, scripts) if scripts else None


def latin_fraction(text: str) -> float | None:
    """Return the share of a text's letters that are Latin, in [0, 1]; None without letters. It shows code-mixing."""
    return _letter_share(text, _LATIN)


def _letter_share(text: str, scripts: frozenset[str]) -> float | None:
    """Return the share of a text's letters that belong to one of the scripts; None without letters."""
    letters = "".join(filter(str.isalpha, text))
    return len(_pattern_of(scripts).findall(letters)) / len(letters) if letters else None


@cache
def _pattern_of(scripts: frozenset[str]) -> "regex.Pattern[str]":
    """Compile a pattern that matches one character of the given scripts.

    The pattern uses Script_Extensions, not Script: the Japanese length mark belongs to two scripts, so its Script is
    neither of them.
    """
    return regex.compile("[" + "".join(rf"\p{{Script_Extensions={script}}}" for script in sorted(scripts)) + "]")

"""The scripts of each language, and the share of a text's letters that are written in them."""

from functools import cache

import regex

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
    """Share of a text's letters, in [0, 1], that belong to a script of the language.

    Marks, digits and punctuation are not counted, because scripts share them. None without letters, without a
    language, and for a language that ``LANGUAGE_SCRIPTS`` lacks.
    """
    scripts = LANGUAGE_SCRIPTS.get(language or "")
    return _letter_share(text, scripts) if scripts else None


def latin_fraction(text: str) -> float | None:
    """Share of a text's letters that are Latin, in [0, 1]; None without letters. It shows code-mixing."""
    return _letter_share(text, _LATIN)


def _letter_share(text: str, scripts: frozenset[str]) -> float | None:
    letters = "".join(filter(str.isalpha, text))
    return len(_pattern_of(scripts).findall(letters)) / len(letters) if letters else None


@cache
def _pattern_of(scripts: frozenset[str]) -> "regex.Pattern[str]":
    """Compile the pattern of one character of some scripts.

    Script_Extensions, not Script: the Japanese length mark belongs to two scripts, so its Script is none of them.
    """
    return regex.compile("[" + "".join(rf"\p{{Script_Extensions={script}}}" for script in sorted(scripts)) + "]")

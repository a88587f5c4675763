"""Which scripts a language is written in, and how much of a text is written in them."""

from bisect import bisect_right

_SCRIPT_RANGES: dict[str, tuple[tuple[int, int], ...]] = {
    "Arabic": ((0x0600, 0x06FF), (0x0750, 0x077F), (0x0870, 0x08FF), (0xFB50, 0xFDFF), (0xFE70, 0xFEFE)),
    "Bengali": ((0x0980, 0x09FF),),
    "Cyrillic": ((0x0400, 0x052F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Devanagari": ((0x0900, 0x097F), (0xA8E0, 0xA8FF)),
    "Gujarati": ((0x0A80, 0x0AFF),),
    "Gurmukhi": ((0x0A00, 0x0A7F),),
    "Han": ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "Hiragana": ((0x3040, 0x309F),),
    "Kannada": ((0x0C80, 0x0CFF),),
    "Katakana": ((0x30A0, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "Latin": (
        (0x0041, 0x005A), (0x0061, 0x007A), (0x00AA, 0x00AA), (0x00BA, 0x00BA), (0x00C0, 0x02AF),
        (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA722, 0xA7FF), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A),
    ),
    "Malayalam": ((0x0D00, 0x0D7F),),
    "Meetei Mayek": ((0xAAE0, 0xAAFF), (0xABC0, 0xABFF)),
    "Odia": ((0x0B00, 0x0B7F),),
    "Ol Chiki": ((0x1C50, 0x1C7F),),
    "Tamil": ((0x0B80, 0x0BFF),),
    "Telugu": ((0x0C00, 0x0C7F),),
}  # fmt: skip
"""Unicode blocks, first and last code point. Blocks, not the Script property: only letters are looked up."""

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
        ("mni", "Bengali", "Meetei Mayek"),
        ("mr", "Devanagari"),
        ("ne", "Devanagari"),
        ("or", "Odia"),
        ("pa", "Gurmukhi"),
        ("pt", "Latin"),
        ("ru", "Cyrillic"),
        ("sa", "Devanagari"),
        ("sat", "Ol Chiki"),
        ("sd", "Arabic", "Devanagari"),
        ("ta", "Tamil"),
        ("te", "Telugu"),
        ("ur", "Arabic"),
        ("zh", "Han"),
    )
}
"""The scripts that a transcript in a language may use. A language that is not here has no opinion."""

_RANGES = sorted((first, last, script) for script, ranges in _SCRIPT_RANGES.items() for first, last in ranges)
_FIRSTS = [first for first, _, _ in _RANGES]


def script_of(letter: str) -> str | None:
    """Name the script of one letter, None if it is none of those in the table."""
    place = bisect_right(_FIRSTS, ord(letter)) - 1
    return _RANGES[place][2] if place >= 0 and ord(letter) <= _RANGES[place][1] else None


def script_fraction(text: str, language: str | None) -> float | None:
    """Share of a text's letters, in [0, 1], that belong to a script of the language.

    Marks, digits and punctuation are not counted: scripts share them. None where there is nothing to say: no
    letters, no language, or a language whose scripts are not known here.
    """
    scripts = LANGUAGE_SCRIPTS.get(language or "")
    return _letter_share(text, scripts) if scripts else None


def latin_fraction(text: str) -> float | None:
    """Share of a text's letters that are Latin, in [0, 1]; None without letters. Tells code-mixing."""
    return _letter_share(text, frozenset({"Latin"}))


def _letter_share(text: str, scripts: frozenset[str]) -> float | None:
    letters = [character for character in text if character.isalpha()]
    return sum(script_of(letter) in scripts for letter in letters) / len(letters) if letters else None

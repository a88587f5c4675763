"""Scripts: which letters belong to which script, and which languages are written in them."""

import unicodedata
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.scripts import LANGUAGE_SCRIPTS, _pattern_of, latin_fraction, script_fraction

INDIC = {
    "as", "bn", "brx", "doi", "gu", "hi", "kn", "kok", "ks", "mai", "ml",
    "mni", "mr", "ne", "or", "pa", "sa", "sat", "sd", "ta", "te", "ur",
}  # fmt: skip
DEMO = {"de", "en", "es", "fr", "it", "ja", "pt", "ru", "zh"}
LETTERS = [chr(code_point) for code_point in range(0x110000) if chr(code_point).isalpha()]
INDIC_SCRIPTS = sorted({script for language in INDIC for script in LANGUAGE_SCRIPTS[language]})


@cache
def letters_of(script: str) -> frozenset[str]:
    return frozenset(_pattern_of(frozenset({script})).findall("".join(LETTERS)))


def name_of(script: str) -> str:
    return script.replace("_", " ").upper()


@given(st.text(), st.sampled_from(sorted(LANGUAGE_SCRIPTS)))
def test_a_script_fraction_is_a_fraction_of_the_letters(text, language):
    """The fraction is in [0, 1], None exactly without letters, and independent of all other characters."""
    fraction = script_fraction(text, language)
    letters = "".join(character for character in text if character.isalpha())
    assert (fraction is None) == (not letters)
    assert fraction is None or 0 <= fraction <= 1
    assert script_fraction(letters, language) == fraction


@given(st.text())
def test_latin_fraction_is_the_script_fraction_of_english(text):
    """Both functions count the same letters."""
    assert latin_fraction(text) == script_fraction(text, "en")


@pytest.mark.parametrize("script", INDIC_SCRIPTS)
def test_letters_of_an_indic_script_are_named_after_it(script):
    """Unicode's names of letters agree with its scripts, except for signs that several scripts share."""
    others = frozenset().union(*(letters_of(other) for other in INDIC_SCRIPTS if other != script))
    shared = {letter for letter in letters_of(script) - others if unicodedata.name(letter).startswith("VEDIC SIGN")}
    assert all(name_of(script) in unicodedata.name(letter) for letter in letters_of(script) - others - shared)


@pytest.mark.parametrize("script", INDIC_SCRIPTS)
def test_an_indic_script_has_all_letters_named_after_it(script):
    """No letter that Unicode names after the script is missing."""
    named = {letter for letter in LETTERS if unicodedata.name(letter, "").startswith(f"{name_of(script)} LETTER")}
    assert len(named) >= 30
    assert named <= letters_of(script)


@pytest.mark.parametrize(
    ("text", "language", "fraction"),
    [
        ("नमस्ते दुनिया", "hi", 1.0),
        ("namaste duniya", "hi", 0.0),
        ("नमस ok", "hi", 0.6),
        ("ひらがな カタカナ 漢字", "ja", 1.0),
        ("コーヒー", "ja", 1.0),
        ("漢字", "zh", 1.0),
        ("سلام", "ur", 1.0),
        ("१२३", "hi", None),
        ("hello", "xx", None),
        ("hello", None, None),
    ],
)
def test_script_fractions_of_known_texts(text, language, fraction):
    """Marks and digits are not counted; an unknown language has no fraction."""
    assert script_fraction(text, language) == fraction


def test_every_language_of_the_corpus_has_a_script():
    """The 22 Indic languages and the nine of the local stack are all known."""
    assert LANGUAGE_SCRIPTS.keys() >= INDIC | DEMO

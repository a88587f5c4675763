"""The laws of scripts: which letters belong to which, and which languages are written in them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.scripts import LANGUAGE_SCRIPTS, latin_fraction, script_fraction, script_of

INDIC = {
    "as", "bn", "brx", "doi", "gu", "hi", "kn", "kok", "ks", "mai", "ml",
    "mni", "mr", "ne", "or", "pa", "sa", "sat", "sd", "ta", "te", "ur",
}  # fmt: skip
DEMO = {"de", "en", "es", "fr", "it", "ja", "pt", "ru", "zh"}
LETTERS = [chr(code_point) for code_point in range(0x110000) if chr(code_point).isalpha()]
NAME_OF_SCRIPT = {"Han": "CJK", "Odia": "ORIYA"}
"""What Unicode calls a script in the names of its letters, where it is not the script's own name."""


@given(st.text(), st.sampled_from(sorted(LANGUAGE_SCRIPTS)))
def test_a_script_fraction_is_a_fraction_of_the_letters(text, language):
    """In [0, 1], None exactly without letters, and blind to everything that is no letter."""
    fraction = script_fraction(text, language)
    letters = "".join(character for character in text if character.isalpha())
    assert (fraction is None) == (not letters)
    assert fraction is None or 0 <= fraction <= 1
    assert script_fraction(letters, language) == fraction


@given(st.text())
def test_latin_is_the_script_of_english(text):
    """Two ways to ask the same question agree."""
    assert latin_fraction(text) == script_fraction(text, "en")


def test_letters_belong_to_the_script_that_their_name_says():
    """Unicode's own names of letters, an independent witness, agree with the table."""
    strangers = {}
    for letter in LETTERS:
        script, name = script_of(letter), unicodedata.name(letter, "")
        if script and NAME_OF_SCRIPT.get(script, script).upper() not in name:
            strangers[letter] = script
    # What is named after its use: ordinal indicators, ideographic marks, raised letters.
    unnamed = {letter for letter in strangers if unicodedata.name(letter).startswith("MODIFIER LETTER")}
    assert set(strangers) - unnamed == set("ªº々〆")


@pytest.mark.parametrize("script", sorted({s for language in INDIC for s in LANGUAGE_SCRIPTS[language]}))
def test_no_letter_of_an_indic_script_is_left_out(script):
    """Every letter that Unicode names after the script is in its ranges."""
    prefix = f"{NAME_OF_SCRIPT.get(script, script).upper()} LETTER"
    letters = [c for c in LETTERS if unicodedata.name(c, "").startswith(prefix)]
    assert len(letters) >= 30
    assert {script_of(letter) for letter in letters} == {script}


@pytest.mark.parametrize(
    ("text", "language", "fraction"),
    [
        ("नमस्ते दुनिया", "hi", 1.0),
        ("namaste duniya", "hi", 0.0),
        ("नमस ok", "hi", 0.6),
        ("ひらがな カタカナ 漢字", "ja", 1.0),
        ("漢字", "zh", 1.0),
        ("سلام", "ur", 1.0),
        ("१२३", "hi", None),
        ("hello", "xx", None),
        ("hello", None, None),
    ],
)
def test_script_fractions_of_known_texts(text, language, fraction):
    """Marks, digits and unknown languages have no say."""
    assert script_fraction(text, language) == fraction


def test_every_language_of_the_corpus_has_a_script():
    """The 22 Indic languages and the nine of the local stack are all known."""
    assert LANGUAGE_SCRIPTS.keys() >= INDIC | DEMO

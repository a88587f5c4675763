"""The normal form of a transcript, and the scripts in which its letters are written."""

import unicodedata
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.text import (
    LANGUAGE_SCRIPTS,
    _pattern_of,
    comparable_text,
    has_digits,
    latin_fraction,
    normalise_text,
    script_fraction,
)

SPELLING = st.text(st.characters(categories=["L", "M", "Nd", "Zs"]))
ZERO_WIDTH = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\ufe0f"]
EVERY_CHARACTER = [chr(code_point) for code_point in range(0x110000)]


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    """The normal form of a normal form is itself."""
    normal = normalise_text(text)
    assert normalise_text(normal) == normal


def test_the_normal_form_of_every_character_is_stable_and_clean():
    """Every code point, surrogates included, leaves only letters, marks, numbers and single spaces."""
    normal = normalise_text(" ".join(EVERY_CHARACTER))
    assert normalise_text(normal) == normal
    assert {unicodedata.category(character)[0] for character in set(normal) - {" "}} == {"L", "M", "N"}
    assert "  " not in normal


@given(st.text())
def test_canonically_equivalent_texts_have_one_normal_form(text):
    """Composed and decomposed letters have the same normal form."""
    decomposed, composed = unicodedata.normalize("NFD", text), unicodedata.normalize("NFC", text)
    assert normalise_text(decomposed) == normalise_text(composed) == normalise_text(text)


@given(SPELLING, SPELLING, st.sampled_from(ZERO_WIDTH))
def test_invisible_characters_do_not_count(before, after, invisible):
    """Joiners, byte order marks and variation selectors change only the look of a text."""
    assert normalise_text(before + invisible + after) == normalise_text(before + after)


@given(
    st.lists(st.text(st.characters(categories=["L"]), min_size=1)), st.sampled_from(list("।॥,.!?…—\"'()؟،。、 \t\n♪"))
)
def test_punctuation_only_separates_words(words, mark):
    """A punctuation mark between two words equals a space."""
    assert normalise_text(mark.join(words)) == normalise_text(" ".join(words))


def test_digits_of_every_script_are_ascii():
    """Decimal digits of every script become the ASCII digit of the same value."""
    digits = [character for character in EVERY_CHARACTER if unicodedata.category(character) == "Nd"]
    assert len(digits) > 600
    assert all(normalise_text(digit) == str(unicodedata.decimal(digit)) for digit in digits)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("नमस्ते,  दुनिया।", "नमस्ते दुनिया"),
        ("क़लम", "क़लम"),  # U+0958 stays decomposed, as NFC demands
        ("क्\u200dष १२३", "क्ष 123"),
        ("Hello,\tWORLD!", "hello world"),
        ("Straße", "strasse"),
        ("50%", "50"),
        ("", ""),
        (" …।— ", ""),
    ],
)
def test_normalisation_version_1_is_pinned(text, normal):
    """A change of any of these outputs is a new normalisation version."""
    assert normalise_text(text) == unicodedata.normalize("NFC", normal)


def test_spaces_count_only_in_languages_that_write_them():
    """Japanese and Chinese transcripts are compared without spaces, all others with."""
    assert comparable_text("今日 は。良い", "ja") == "今日は良い"
    assert comparable_text("今日 は。良い", None) == "今日 は 良い"
    assert comparable_text("a b", "en") == "a b"


def test_digits_of_any_script_are_found():
    """Digits raise the CER of a recogniser that writes numbers as words, so they are reported."""
    assert has_digits("कमरा १२")
    assert has_digits("room 12")
    assert not has_digits("room twelve")


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

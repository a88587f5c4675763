import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.languages import _codes, _names, normalize_language_code, to_macrolanguage


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("hi", "hi"), ("hin", "hi"), ("HI", "hi"), (" en ", "en"), ("en-IN", "en"), ("zh_Hant", "zh"),
        ("ory", "or"), ("ori", "or"), ("npi", "ne"), ("gom", "kok"), ("dgo", "doi"), ("brx", "brx"),
        ("mni", "mni"), ("sat", "sat"), ("mai", "mai"), ("jw", "jv"), ("iw", "he"), ("cmn", "zh"), ("nob", "no"),
        ("hi-IN", "hi"), ("hi_Deva_IN", "hi"), ("Hindi", "hi"), ("HINDI", "hi"), ("Punjabi", "pa"), ("Bangla", "bn"),
        ("Odia", "or"), ("oriya", "or"), ("Manipuri", "mni"), ("Hindi (India)", "hi"), ("in", "id"), ("ji", "yi"),
        ("Nepali", "ne"), ("malay", "ms"), ("Swahili", "sw"), ("Konkani", "kok"), ("greek", "el"), ("Farsi", "fa"),
        ("mandarin", "zh"), ("Cantonese", "yue"), ("myanmar", "my"), ("nynorsk", "nn"), ("Greek (Greece)", "el"),
        ("Serbian", "sr"), ("Croatian", "hr"), ("Mundari", "unr"), ("Malay (individual language)", "ms"),
    ],
)  # fmt: skip
def test_every_spelling_of_a_language_has_one_code(written, code):
    """The code is ISO 639-1 if there is one, else 639-3; macrolanguage, old code, case and region do not matter."""
    assert normalize_language_code(written) == code


@pytest.mark.parametrize("written", [None, "", "xx", "qqq", "-", "e n", "und", "mul", "zxx", "unknown", "bati"])
def test_unknown_labels_have_no_code(written):
    """A label that names no language of ISO 639 has no code, so every LID model abstains on it."""
    assert normalize_language_code(written) is None


@given(st.sampled_from(sorted(_codes().keys() | _names().keys())))
def test_normalising_a_normalised_code_changes_nothing(code):
    """Codes of different origins may be compared after one normalisation."""
    once = normalize_language_code(code)
    assert once is not None
    assert normalize_language_code(once) == once


@pytest.mark.parametrize(
    ("lect", "language"),
    [
        ("bho", "hi"), ("awa", "hi"), ("mag", "hi"), ("hi", "hi"),  # the Hindi belt
        ("arz", "ar"), ("gom", "kok"), ("uzn", "uz"),  # macrolanguages
        ("mai", "mai"), ("ur", "ur"), ("hr", "hr"), ("id", "id"),  # languages of their own
        ("tlh-x", "tlh-x"),
    ],
)  # fmt: skip
def test_lects_are_folded_into_their_language(lect, language):
    """Lects vote as the language that transcribers declare; neighbours with a code of their own stay apart."""
    assert to_macrolanguage(lect) == language


@given(st.sampled_from(sorted(set(_codes().values()))))
def test_folding_a_folded_lect_changes_nothing(code):
    """Codes may be compared after one folding."""
    assert to_macrolanguage(to_macrolanguage(code)) == to_macrolanguage(code)

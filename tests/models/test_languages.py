import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.models.languages import _CANONICAL, canonical


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("hi", "hi"), ("hin", "hi"), ("HI", "hi"), (" en ", "en"), ("en-IN", "en"), ("zh_Hant", "zh"),
        ("ory", "or"), ("ori", "or"), ("npi", "ne"), ("gom", "kok"), ("dgo", "doi"), ("brx", "brx"),
        ("mni", "mni"), ("sat", "sat"), ("mai", "mai"), ("jw", "jv"), ("iw", "he"), ("cmn", "zh"), ("nob", "no"),
    ],
)  # fmt: skip
def test_every_way_to_write_a_language_leads_to_one_code(written, code):
    """ISO 639-1 where it exists, else 639-3; macrolanguage, obsolete code, case and region do not matter."""
    assert canonical(written) == code


@pytest.mark.parametrize("written", [None, "", "xx", "qqq", "hindi", "-", "e n"])
def test_what_no_model_can_name_has_no_code(written):
    """An unknown label is nobody's language: everyone abstains on it, and nobody guesses."""
    assert canonical(written) is None


@given(st.sampled_from(sorted(_CANONICAL)))
def test_a_canonical_code_is_its_own(code):
    """Naming twice names once, so codes may be compared wherever they come from."""
    assert canonical(canonical(code)) == canonical(code) is not None


def test_every_language_that_whisper_names_has_a_code_of_its_own(models):
    """No two of Whisper's 99 languages fall together, so no probability is lost."""
    assert len(models["whisper"].languages) == 99
    assert models["whisper"].languages >= {"as", "bn", "gu", "hi", "jv", "kn", "ml", "mr", "ne", "pa", "ta", "te", "ur"}
    assert not models["whisper"].languages & {"or", "brx", "jw", "kok", "mai"}

"""A suite must recognise speech with known text before it serves."""

from pathlib import Path

import pytest

from validation.models.known_speech import SpeechNotRecognised, check_speech, read_clip
from validation.models.suite import load_suite
from validation.models.suites import SUITES

ROOT = Path(__file__).parents[2]


def test_real_weights_recognise_the_known_clips(suite):
    """Suite `local` writes the text of its clip and hears its language."""
    (heard,) = check_speech(suite)
    assert heard.cer < 0.2
    assert heard.languages == {"whisper": "en"}


def test_random_weights_are_refused(weights_root, monkeypatch):
    """Weights that load without an error but do not recognise speech refuse the start, with what was heard."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    with pytest.raises(
        SpeechNotRecognised, match=r"suite indic does not recognise clear speech: conformer has a CER of"
    ):
        check_speech(load_suite("indic", threads=1))


@pytest.mark.parametrize("name", sorted({name for spec in SUITES.values() for name in spec.known_clips}))
def test_the_image_holds_the_known_clips(name):
    """Each clip is read from the package, and the build context of the image keeps it."""
    assert read_clip(name).text
    assert f"!validation/local/clips/{name}.flac" in (ROOT / ".dockerignore").read_text().splitlines()

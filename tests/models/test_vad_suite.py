"""The suite `vad`: Silero alone."""

import pytest

from tests.support.speech_samples import silence
from validation.domain import DecodedSegment, Scored, Segment, Utterance
from validation.local.sample_corpus import decode_clip
from validation.models.suite import load_suite
from validation.scoring.signals import segment_signals


@pytest.fixture(scope="module")
def suite():
    return load_suite("vad")


def evaluate(suite, audio, text: str):
    """The answers and the verdict of the suite for one segment."""
    (answers,) = suite.score([Utterance(audio, text, "en")])
    decoded = DecodedSegment(Segment("v", "s", text, "en"), audio)
    return answers, suite.rules.evaluate(segment_signals(decoded, answers, language="en", roles=suite.roles))


def test_it_detects_speech_and_accepts_nothing(suite):
    """`accept` needs a model that compares the transcript, and this suite has none."""
    answers, verdict = evaluate(suite, decode_clip("en_librivox_0880"), "he was not an ill disposed young man")
    assert isinstance(answers["silero"], Scored)
    assert answers["silero"].values["speech_ratio"] > 0.5
    assert (verdict.verdict, verdict.reasons, verdict.rules_version) == ("review", ("unjudged",), "vad-1")


def test_it_rejects_silence(suite):
    """Silence is rejected as no speech."""
    _, verdict = evaluate(suite, silence(2.0), "he was not an ill disposed young man")
    assert verdict.verdict == "reject"
    assert "no_speech" in verdict.reasons

"""The laws of what is derived from one segment and its models' answers."""

import math
from dataclasses import replace

import numpy as np
import pytest

from validation.domain import SAMPLE_RATE, DecodedSegment, Fault, Scored, Segment, Unscored
from validation.scoring.rules_io import load_rules
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles, segment_signals

ROLES = SuiteRoles(models=("whisper", "dnsmos"), asr_model="whisper", lid_models=("whisper",))
AUDIO = (0.1 * np.sin(np.arange(2 * SAMPLE_RATE) / 5)).astype(np.float32)
HEARD = {
    "whisper": Scored(
        {"text": "नमस्ते दुनिया", "language": "hi", "language_p": 0.9, "declared_p": 0.9, "align_tok": -0.2}
    ),
    "dnsmos": Scored({"ovr": 3.0, "bak": 3.5}),
}


def decode(*, audio=AUDIO, text="नमस्ते, दुनिया।", language="hin") -> DecodedSegment:
    return DecodedSegment(Segment("vid", "seg-0", text, language), audio)


def gather(decoded=None, answers=HEARD, *, language="hi", roles=ROLES):
    return segment_signals(decoded or decode(), answers, language=language, roles=roles)


def test_a_segment_has_every_signal_by_its_column_name():
    """Each derived signal and each model's fault is always there, possibly as None."""
    expected = {"fault", "language", "whisper_fault", "dnsmos_fault", *(column.name for column in DERIVED_SIGNALS)}
    for decoded in (decode(), decode(audio=Fault("undecodable", "no such codec")), decode(text="")):
        assert expected <= gather(decoded).keys()
    assert gather().keys() - expected == {f"{m}_{name}" for m, answer in HEARD.items() for name in answer.values}


def test_signals_of_a_good_segment():
    """Each signal has the value of its definition."""
    signals = gather()
    assert signals["fault"] is None
    assert signals["duration_s"] == 2.0
    assert signals["rms_dbfs"] == pytest.approx(-23.0, abs=0.1)
    assert signals["text_normalised"] == "नमस्ते दुनिया"
    assert signals["cer"] == signals["edge_cer_start"] == signals["edge_cer_end"] == 0
    assert signals["chars_per_s"] == len("नमस्तेदुनिया") / 2.0
    assert (signals["script_fraction"], signals["latin_fraction"]) == (1.0, 0.0)
    assert (signals["language_code"], signals["language_votes_for"], signals["language_abstentions"]) == ("hi", 1, 0)
    assert signals["whisper_align_tok"] == -0.2


def test_undecodable_audio_leaves_faults_and_no_number():
    """No model is asked, every model's fault repeats the reason, and the signals of the text remain."""
    signals = gather(decode(audio=Fault("undecodable", "no such codec")), answers={})
    assert signals["fault"] == signals["whisper_fault"] == signals["dnsmos_fault"] == "undecodable: no such codec"
    assert all(signals[name] is None for name in ("duration_s", "rms_dbfs", "clipped_fraction", "cer", "chars_per_s"))
    assert signals["text_normalised"] == "नमस्ते दुनिया"
    assert signals["language_abstentions"] == 1
    assert load_rules("local-2").evaluate(signals).reasons == ("undecodable",)


@pytest.mark.parametrize("version", ["local-1", "local-3"])
def test_label_that_is_no_language_asks_no_model(version):
    """The segment has no input for a model, and under every rules file the reason is its label, not the models."""
    decoded = decode(language="klingonish")
    assert decoded.utterance_for(()) is None
    signals = gather(decoded, answers={}, language=None)
    assert signals["whisper_fault"] == "not_asked: ISO 639 does not know the declared language"
    verdict = load_rules(version).evaluate(signals | {"silero_fault": signals["whisper_fault"]})
    assert verdict.verdict == "review"
    assert "unknown_language" in verdict.reasons
    assert not any(reason.startswith("unscored") for reason in verdict.reasons)


def test_label_that_no_model_knows_asks_no_model():
    """Its reason is the language, under every rules file, and never that the models gave no answer."""
    roles = replace(ROLES, known_languages=("en", "hi"))
    decoded = decode(language="tlh")
    assert decoded.utterance_for(roles.known_languages) is None
    signals = gather(decoded, answers={}, language="tlh", roles=roles)
    assert signals["whisper_fault"] == "not_asked: no model of the suite knows the declared language"
    for version in ("local-1", "local-3"):
        verdict = load_rules(version).evaluate(signals | {"silero_fault": signals["whisper_fault"]})
        assert verdict.verdict == "review"
        assert verdict.reasons[0] == "unsupported_language"
        assert not any(reason.startswith("unscored") for reason in verdict.reasons)


@pytest.mark.parametrize("language", [None, "", " ", "hi-IN"])
def test_models_are_asked_without_a_label(language):
    """A missing label may be found by the models, so they are asked."""
    assert decode(language=language).utterance_for(("mr", "hi")) is not None


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_an_answer_with_a_non_finite_number_is_a_fault(broken):
    """One NaN makes the whole answer a fault; the model's other columns are dropped too."""
    signals = gather(answers=HEARD | {"dnsmos": Scored({"ovr": broken, "bak": 3.5})})
    assert signals["dnsmos_fault"] == f"not_finite: ovr is {broken}"
    assert "dnsmos_bak" not in signals
    assert signals["whisper_fault"] is None


def test_without_a_recognised_text_the_error_rate_is_unknown():
    """CER is None without a recognised text, and 1 for an empty recognised text."""
    unheard = HEARD | {"whisper": Unscored(Fault("model_failed", "boom"))}
    assert gather(answers=unheard)["cer"] is None
    assert gather(answers=unheard)["language_abstentions"] == 1
    assert gather(answers=HEARD | {"whisper": Scored({"text": None})})["cer"] is None
    assert gather(answers=HEARD | {"whisper": Scored({"text": ""})})["cer"] == 1


def test_a_suite_without_asr_and_lid_models_has_signals():
    """Roles are optional: the signals of audio and text need no model."""
    signals = gather(roles=SuiteRoles(models=("dnsmos",)), answers={"dnsmos": HEARD["dnsmos"]})
    assert signals["cer"] is None
    assert signals["language_votes_for"] == signals["language_abstentions"] == 0
    assert signals["script_fraction"] == 1.0


def test_a_missing_answer_is_an_error_of_the_caller():
    """A missing answer raises and never counts as an abstention."""
    with pytest.raises(KeyError, match="dnsmos"):
        gather(answers={"whisper": HEARD["whisper"]})


def test_without_a_declared_language_no_model_votes():
    """Without a known language there is no script fraction, and all LID models abstain."""
    signals = gather(language=None)
    assert signals["language_code"] is None
    assert signals["script_fraction"] is None
    assert signals["language_abstentions"] == 1


def test_spaces_are_no_errors_in_languages_without_spaces():
    """Spaces that a recogniser puts into Japanese do not change the CER."""
    spaced = HEARD | {"whisper": Scored({"text": "こんにちは 世界"})}
    assert gather(decode(text="こんにちは世界。"), spaced, language="ja")["cer"] == 0

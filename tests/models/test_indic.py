"""The production suite with tiny models, loaded and used as on a box."""

import gc
import socket

import onnxruntime
import pytest

from tests.support.speech_samples import same_values, values_of
from tests.support.tiny_indic import voice
from validation.domain import DecodedSegment, DecodedVideo, Segment, Unscored, Utterance, Video
from validation.errors import BadInput
from validation.inference.executor import LONG_WARMUP_S, WARMUP_S
from validation.models.conformer.onnx_engine import OnnxEngine
from validation.models.dnsmos import Dnsmos
from validation.models.scorer import build_rows
from validation.models.self_test import make_probe_batch
from validation.models.suite import Suite, load_suite

PYTHON_TYPES = {"float": float, "int": int, "str": str, "bool": bool}


@pytest.fixture(scope="module")
def indic(weights_root) -> Suite:
    """Loaded with every network access blocked."""

    def refuse(*_):
        raise AssertionError("loading a model reached for the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFLEET_WEIGHTS", str(weights_root))
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return load_suite("indic", threads=2)


@pytest.fixture(scope="module")
def answers(indic, clips):
    """Its answers to real speech: two clips in a language that all LID models know, two in others."""
    names = ["hi_namaste_duniya", "hi_ginti", "en_hello_world", "ja_konnichiwa_sekai"]
    return dict(zip(names, indic.score([clips[name].utterance() for name in names]), strict=True))


def test_the_suite_is_the_one_of_production(indic):
    """It has five models, three of them LID models; revisions name the weights and the precision."""
    assert list(indic.columns) == list(indic.revisions) == ["conformer", "mms", "voxlingua", "dnsmos", "silero"]
    assert indic.roles.lid_models == ("conformer", "mms", "voxlingua")
    assert indic.roles.asr_model == "conformer"
    assert indic.rules.version == "indic-2"
    assert indic.revisions["mms"].endswith("-float32")
    assert indic.revisions["dnsmos"].endswith("-side-by-side")


def test_every_model_answers_in_exactly_its_columns(indic, answers):
    """Answers have the declared columns and types, from which the shard's schema is made."""
    for told in answers.values():
        assert list(told) == list(indic.columns)
        for model, answer in told.items():
            values = values_of(answer)
            assert set(values) == {column.name for column in indic.columns[model]}
            for column in indic.columns[model]:
                value = values[column.name]
                assert value is None or type(value) is PYTHON_TYPES[column.type], column


def test_the_warm_up_batch_uses_every_part_of_the_suite(indic):
    """Its segments have a language that all LID models know and a transcript that is aligned, in both lengths."""
    for duration_s in (WARMUP_S, LONG_WARMUP_S):
        (told,) = indic.score_batch(make_probe_batch(indic.columns, 1, duration_s))
        assert values_of(told["conformer"])["align_tok"] is not None
        assert all(values_of(told[judge])["declared_p"] is not None for judge in indic.roles.lid_models)


def test_no_session_falls_back_to_the_cpu(indic):
    """After a GPU error ONNX Runtime would continue on the CPU at a hundredth of the speed."""
    models = [found for found in gc.get_objects() if type(found) in {OnnxEngine, Dnsmos}]
    held = [value for model in models for value in vars(model).values()]
    sessions = [value for value in held if isinstance(value, onnxruntime.InferenceSession)]
    assert len(sessions) >= 3
    assert not any(session._enable_fallback for session in sessions)


def test_lid_models_abstain_on_unknown_languages(answers):
    """No model here knows Japanese, and IndicConformer no English: no probability and no text."""
    declared = {
        name: {judge: values_of(told[judge])["declared_p"] for judge in ("conformer", "mms", "voxlingua")}
        for name, told in answers.items()
    }
    assert all(p is not None for p in declared["hi_ginti"].values())
    assert [m for m, p in declared["en_hello_world"].items() if p is None] == ["conformer"]
    assert set(declared["ja_konnichiwa_sekai"].values()) == {None}
    assert values_of(answers["en_hello_world"]["conformer"])["text"] is None
    assert isinstance(values_of(answers["hi_ginti"]["conformer"])["text"], str)


def test_batch_and_order_do_not_change_an_answer(indic, clips, answers):
    """Sorted and padded with other segments, a clip has the answers that it has alone."""
    others = [Utterance(voice(duration_s, seed=2), "नमस्ते", "hi") for duration_s in (0.1, 2.7)]
    told = indic.score([others[0], clips["hi_namaste_duniya"].utterance(), others[1]])
    for model, answer in told[1].items():
        assert same_values(values_of(answer), values_of(answers["hi_namaste_duniya"][model]))


def test_answers_become_rows_with_a_verdict(indic, answers, clips):
    """Signals, votes and rules accept the answers: three models vote, and random weights are rejected."""
    clip = clips["hi_ginti"]
    segment = DecodedSegment(Segment("v", "s", clip.text, "hi"), clip.audio)
    video = DecodedVideo(Video("v", "hi", 1), (segment,), tar_bytes=1, layout="pairs")
    (row,) = build_rows(video, iter([answers["hi_ginti"]]), indic)
    assert row["language_votes_for"] + row["language_votes_against"] == 3
    assert row["language_abstentions"] == 0
    assert row["cer"] > 0.5
    assert row["verdict"] == "reject"
    assert "transcript_mismatch" in row["reasons"]
    assert not [reason for reason in row["reasons"] if reason.startswith("unscored")]


def test_audio_with_nan_does_not_change_its_neighbour(indic, clips, answers):
    """Audio with NaN is unscored by all models, and the clip beside it has its own answers."""
    broken = voice(1.0)
    broken[7] = float("nan")
    nan, fine = indic.score([Utterance(broken, "", "hi"), clips["hi_ginti"].utterance()])
    assert all(isinstance(answer, Unscored) and answer.fault.kind == "not_finite" for answer in nan.values())
    assert all(same_values(values_of(fine[m]), values_of(answers["hi_ginti"][m])) for m in fine)


def test_missing_weights_are_named(monkeypatch, tmp_path):
    """The error names the variable, or the command that locks the folder."""
    monkeypatch.delenv("VFLEET_WEIGHTS", raising=False)
    with pytest.raises(BadInput, match="VFLEET_WEIGHTS is not set"):
        load_suite("indic")
    monkeypatch.setenv("VFLEET_WEIGHTS", str(tmp_path))
    with pytest.raises(BadInput, match="vfleet weights lock"):
        load_suite("indic-cascade")

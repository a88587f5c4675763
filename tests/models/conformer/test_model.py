import shutil

import numpy as np
import pytest

from simulation.tiny_models.conformer import LETTERS
from tests.support.speech_samples import ask, silence
from tests.support.tiny_indic import lock, voice
from validation.cli.main import main
from validation.domain import Fault, Scored, Unscored, Utterance
from validation.hardware.device import DeviceConfig
from validation.models.base import SegmentModel
from validation.models.batching import pad_batch
from validation.models.conformer import segment
from validation.models.conformer.model import IndicConformer
from validation.models.conformer.vocabulary import VocabularyRefused
from validation.models.suite import find_fault

COMPARED = ("transcript_lp", "greedy_lp", "align_tok", "align_frame", "align_min")
TRANSCRIBED = ("tokens", "covered", "feasible", *COMPARED)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def conformer(request, weights_root):
    return IndicConformer(threads=1, root=weights_root, device_config=DeviceConfig(), engine=request.param)


@pytest.fixture(scope="module")
def exported(weights_root):
    return IndicConformer(threads=1, root=weights_root, device_config=DeviceConfig(), engine="onnx")


def spell(language, words):
    """Words in the letters of a language."""
    letters = [chr(LETTERS[language] + 0x15 + place) for place in range(20)]
    return " ".join("".join(letters[(7 * word + 3 * place) % 20] for place in range(3)) for word in range(words))


def speak(duration_s, language="hi", words=2, seed=1):
    return Utterance(voice(duration_s, seed), spell(language, words) if words else "", language)


def test_it_keeps_the_promise_of_a_model(conformer):
    """It names its columns, its 22 languages, its weights and what computes them; an answer has every column."""
    assert isinstance(conformer, SegmentModel)
    assert len(conformer.languages) == 22
    assert {"hi", "or", "kok", "brx"} < conformer.languages
    assert conformer.revision.split("-", 1)[1] in {"onnx-float32", "torch-float32"}
    (told,) = ask(conformer, speak(2.0))
    assert list(told) == [column.name for column in conformer.columns]
    assert all(value is not None for value in told.values())


def test_company_does_not_change_an_answer(conformer):
    """Whatever travels with a segment, its text is the same and its scores are, to rounding."""
    crowd = [
        speak(0.1, "ta", 1),
        speak(0.4, "ur", 1),
        speak(30.0, "or", 40),
        speak(1.003, "en", 0),
        speak(5.5, "sat", 7),
        Utterance(silence(2.0), spell("hi", 2), "hi"),
        speak(33.0, "bn", 9),
    ]
    for utterance, together in zip(crowd, ask(conformer, *crowd), strict=True):
        (alone,) = ask(conformer, utterance)
        for column, value in alone.items():
            wanted = pytest.approx(value, abs=1e-3, rel=1e-5) if isinstance(value, float) else value
            assert together[column] == wanted, column


def test_what_was_heard_is_its_own_best_transcript(conformer):
    """The recognised text, given as the transcript, fits better by every measure than another one."""
    heard = speak(6.0, "gu")
    (told,) = ask(conformer, heard)
    (again,) = ask(conformer, Utterance(heard.audio, told["text"], "gu"))
    assert again["text"] == told["text"]
    assert again["covered"] == 1.0
    assert again["align_tok"] > told["align_tok"]
    assert again["align_frame"] > told["align_frame"]
    assert again["align_min"] > told["align_min"]


def test_scores_have_their_signs(conformer):
    """A path of the transcript is never likelier than the likeliest of all, nor one alignment than all together."""
    for told in ask(conformer, *(speak(s, "kn", words, seed=words) for s, words in ((1.0, 1), (4.0, 6), (9.0, 30)))):
        assert told["align_frame"] <= 0
        assert told["align_min"] <= 0
        assert told["transcript_lp"] <= 0
        assert told["align_tok"] == pytest.approx((told["transcript_lp"] - told["greedy_lp"]) / told["tokens"])
        assert 0 <= told["blank_rate"] <= 1
        assert 0 < told["declared_p"] <= told["language_p"] <= 1


@pytest.mark.parametrize("language", ["en", "xx", None, ""])
def test_it_abstains_where_it_knows_no_language(conformer, language):
    """No English: it says what fits best of what it knows, and nothing of the transcript."""
    (told,) = ask(conformer, Utterance(voice(2.0), "some words", language))
    assert told["language"] in conformer.languages
    assert told["declared_p"] is None
    assert told["text"] is None
    assert all(told[column] is None for column in TRANSCRIBED)


def test_languages_are_written_in_many_ways(conformer):
    """`ory`, `OR` and `or` are one language, and are listened to in its own pieces."""
    audio = voice(2.0)
    told = ask(conformer, *(Utterance(audio, spell("or", 2), code) for code in ("or", "ory", "OR", "or-IN")))
    assert len({answer["text"] for answer in told}) == 1
    assert told[0]["declared_p"] == pytest.approx(told[1]["declared_p"])


def test_a_transcript_that_does_not_fit_in_the_time_is_infeasible(conformer):
    """More tokens than frames is a finding of its own, and no number stands for it."""
    (told,) = ask(conformer, speak(0.5, "hi", words=12))
    assert told["feasible"] is False
    assert told["covered"] == 1.0
    assert all(told[column] is None for column in COMPARED)
    assert told["text"] is not None


@pytest.mark.parametrize(
    ("text", "covered", "tokens"), [("", None, None), ("। — !", None, None), ("only Latin 42", 0.0, 0)]
)
def test_a_transcript_that_cannot_be_spelt_is_not_compared(conformer, text, covered, tokens):
    """Nothing to say is not a bad score; what is written in other letters is known by its coverage."""
    (told,) = ask(conformer, Utterance(voice(2.0), text, "hi"))
    assert (told["covered"], told["tokens"]) == (covered, tokens)
    assert all(told[column] is None for column in COMPARED)
    assert told["text"] is not None


def test_foreign_words_are_passed_over(conformer):
    """A word in Latin letters costs nothing by itself: only what the vocabulary spells is scored."""
    own = spell("hi", 3)
    plain, mixed = ask(conformer, *(Utterance(voice(5.0), text, "hi") for text in (own, f"{own} mobile phone")))
    assert mixed["tokens"] == plain["tokens"]
    assert mixed["covered"] == pytest.approx(9 / 20)
    assert mixed["align_tok"] >= plain["align_tok"]
    assert mixed["align_frame"] <= 0


@pytest.mark.parametrize("samples", [1, 256, 399])
def test_a_segment_shorter_than_a_window_is_unscored(conformer, samples):
    """It is named, and its neighbours are answered as if it were not there."""
    short, long = Utterance(voice(1.0)[:samples], "", "hi"), speak(1.5)
    answers = conformer.score(pad_batch([short, long]))
    assert answers[0] == Unscored(Fault("too_short", f"{samples} samples; the model needs 400"))
    assert isinstance(answers[1], Scored)
    assert answers[1].values["text"] == ask(conformer, long)[0]["text"]
    assert all(isinstance(answer, Unscored) for answer in conformer.score(pad_batch([short, short])))


def test_silence_is_heard_like_anything_else(conformer):
    """Digital silence has finite scores; NaN never comes so far, for the suite asks nobody about it."""
    (told,) = ask(conformer, Utterance(silence(3.0), spell("hi", 2), "hi"))
    assert all(np.isfinite(value) for value in told.values() if isinstance(value, float))
    assert find_fault(np.full(16_000, np.nan, np.float32)).kind == "not_finite"


def test_where_no_language_would_write_anything_none_is_named(weights_root):
    """Nothing but blanks in all 22 is no opinion, and an empty text is a text."""
    heard = segment.SegmentResult(
        "hi", None, np.log(np.eye(257, dtype=np.float32)[[256, 256]] + 1e-9), *np.zeros((2, 22))
    )
    assert heard.language_scores is None
    assert heard.greedy == ()
    assert heard.blank_rate == 1.0


def test_languages_are_weighed_by_what_they_would_write():
    """The best mean wins; one that would write nothing counts as a guess; shares add up to 1."""
    sums, counts = np.array([-2.0, -6.0, 0.0]), np.array([20.0, 20.0, 0.0])
    opinion = segment.SegmentResult("hi", None, np.zeros((1, 257), np.float32), sums, counts).language_scores
    assert opinion.p.sum() == pytest.approx(1)
    assert opinion.p[0] > 0.97
    assert opinion.margin == pytest.approx(0.2)
    assert opinion.p[2] < 1e-9


@pytest.mark.parametrize("minutes", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_long_segment_is_heard_in_pieces_and_scored_whole(exported, minutes):
    """Pieces of half a minute make one text and one alignment over all of them; a neighbour notices nothing."""
    long = Utterance(np.concatenate([voice(60.0, seed) for seed in range(minutes)]), spell("hi", 40 * minutes), "hi")
    neighbour = speak(2.0, "ta")
    told, beside = ask(exported, long, neighbour)
    assert told["frames"] == 2 * minutes * (30 * 100 // 8 + 1)  # each piece has a frame for its end
    assert told["feasible"] is True
    assert all(told[column] is not None for column in COMPARED)
    assert beside["text"] == ask(exported, neighbour)[0]["text"]
    assert beside["align_tok"] == pytest.approx(ask(exported, neighbour)[0]["align_tok"], abs=1e-4)


def test_what_memory_does_not_hold_is_not_aligned(exported, monkeypatch):
    """Lattices are cut into groups that fit; one that never fits is left out, and nobody else with it."""
    crowd = [speak(2.0, "hi", 3), speak(2.1, "hi", 4), speak(2.2, "hi", 60), speak(2.0, "ta", 2)]
    before = ask(exported, *crowd)
    monkeypatch.setattr("validation.models.conformer.segment.MAX_LATTICE_CELLS", 28 * 51)
    after = ask(exported, *crowd)
    for kept, told in zip(before, after, strict=True):
        if told["align_tok"] is not None:
            assert told["align_tok"] == pytest.approx(kept["align_tok"])
    assert after[2]["align_tok"] is None
    assert after[0]["align_tok"] is not None


def test_a_vocabulary_that_does_not_fit_the_head_is_refused(weights_root, tmp_path):
    """The masks are of as many columns as the head has, or nothing starts."""
    folder = tmp_path / "indicconformer-600m"
    shutil.copytree(weights_root / "indicconformer-600m", folder)
    masks = folder / "assets/language_masks.json"
    masks.write_text(masks.read_text().replace("[true, ", "[true, false, ", 1))
    with pytest.raises(VocabularyRefused, match="not 257 of the head's 5633"):
        IndicConformer(threads=1, root=lock(tmp_path), device_config=DeviceConfig(), engine="onnx")


def test_the_command_consolidates_a_download(weights_root, tmp_path, capsys):
    """Five files instead of hundreds, once locked, are a model with the same answers under another revision's name."""
    target = tmp_path / "indicconformer-600m"
    source = weights_root / "indicconformer-600m"
    assert main(["weights", "consolidate", str(source), str(target)]) == 0
    assert main(["weights", "consolidate", str(source), str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["weights", "lock", str(tmp_path)]) == 0
    told, expected = (
        ask(IndicConformer(threads=1, root=root, device_config=DeviceConfig(), engine="torch"), speak(1.0))
        for root in (tmp_path, weights_root)
    )
    assert told == expected


def test_an_engine_is_chosen_by_the_settings(weights_root, monkeypatch):
    """VFLEET_CONFORMER_ENGINE and VFLEET_PRECISION decide where nobody else does; ONNX Runtime stays in float32."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    monkeypatch.setenv("VFLEET_DEVICE", "cpu")
    monkeypatch.setenv("VFLEET_PRECISION", "bfloat16")
    assert IndicConformer(threads=1).revision.endswith("-onnx-float32")
    monkeypatch.setenv("VFLEET_CONFORMER_ENGINE", "torch")
    assert IndicConformer(threads=1).revision.endswith("-torch-bfloat16")

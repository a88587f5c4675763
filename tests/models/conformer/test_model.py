import shutil

import numpy as np
import pytest
import torch

from simulation.tiny_models.conformer import LETTERS
from tests.support.speech_samples import ask, silence
from tests.support.tiny_indic import lock, voice
from validation.cli.main import main
from validation.domain import Fault, Scored, Unscored, Utterance
from validation.hardware.device import DeviceConfig
from validation.models.base import SegmentModel
from validation.models.batching import pad_batch
from validation.models.conformer import segment
from validation.models.conformer.model import IndicConformer, choose_engine
from validation.models.conformer.tokenizer import VocabularyRefused
from validation.models.suite import find_audio_fault

COMPARED = ("transcript_lp", "greedy_lp", "align_tok", "align_frame", "align_min")
TRANSCRIBED = ("tokens", "covered", "feasible", *COMPARED)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def conformer(request, weights_root):
    return IndicConformer(threads=1, root=weights_root, device_config=DeviceConfig(), engine=request.param)


@pytest.fixture(scope="module")
def exported(weights_root):
    return IndicConformer(threads=1, root=weights_root, device_config=DeviceConfig(), engine="onnx")


def make_text(language, words):
    """Words in the letters of a language."""
    letters = [chr(LETTERS[language] + 0x15 + place) for place in range(20)]
    return " ".join("".join(letters[(7 * word + 3 * place) % 20] for place in range(3)) for word in range(words))


def speak(duration_s, language="hi", words=2, seed=1):
    return Utterance(voice(duration_s, seed), make_text(language, words) if words else "", language)


def test_it_implements_the_model_interface(conformer):
    """It has columns, 22 languages and a revision with its engine; an answer has every column."""
    assert isinstance(conformer, SegmentModel)
    assert len(conformer.languages) == 22
    assert {"hi", "or", "kok", "brx"} < conformer.languages
    assert conformer.revision.split("-", 1)[1] in {"onnx-float32", "torch-float32"}
    (told,) = ask(conformer, speak(2.0))
    assert list(told) == [column.name for column in conformer.columns]
    assert all(value is not None for value in told.values())


def test_the_batch_does_not_change_an_answer(conformer):
    """In any batch a segment's text is the same, and its scores are equal to rounding."""
    crowd = [
        speak(0.1, "ta", 1),
        speak(0.4, "ur", 1),
        speak(30.0, "or", 40),
        speak(1.003, "en", 0),
        speak(5.5, "sat", 7),
        Utterance(silence(2.0), make_text("hi", 2), "hi"),
        speak(33.0, "bn", 9),
    ]
    for utterance, together in zip(crowd, ask(conformer, *crowd), strict=True):
        (alone,) = ask(conformer, utterance)
        for column, value in alone.items():
            wanted = pytest.approx(value, abs=1e-3, rel=1e-5) if isinstance(value, float) else value
            assert together[column] == wanted, column


def test_the_recognised_text_is_the_best_transcript(conformer):
    """The recognised text, given as the transcript, fits better by every measure than another one."""
    heard = speak(6.0, "gu")
    (told,) = ask(conformer, heard)
    (again,) = ask(conformer, Utterance(heard.audio, told["text"], "gu"))
    assert again["text"] == told["text"]
    assert again["covered"] == 1.0
    assert again["align_tok"] > told["align_tok"]
    assert again["align_frame"] > told["align_frame"]
    assert again["align_min"] > told["align_min"]


def test_scores_are_within_their_bounds(conformer):
    """The likeliest alignment is never likelier than the likeliest path, and probabilities are ordered."""
    for told in ask(conformer, *(speak(s, "kn", words, seed=words) for s, words in ((1.0, 1), (4.0, 6), (9.0, 30)))):
        assert told["align_frame"] <= 0
        assert told["align_min"] <= 0
        assert told["align_window"] <= 0
        assert min(told["first_token_s"], told["last_token_s"]) >= 0
        assert told["first_token_s"] + told["last_token_s"] < told["frames"] * 0.08
        assert told["transcript_lp"] <= 0
        assert told["align_tok"] == pytest.approx((told["transcript_lp"] - told["greedy_lp"]) / told["tokens"])
        assert 0 <= told["blank_rate"] <= 1
        assert 0 < told["declared_p"] <= told["language_p"] <= 1


def test_the_worst_window_finds_what_the_mean_hides():
    """A second of frames that are wrong among nine that are right."""
    frame_lp = np.full(120, -0.1)
    frame_lp[48:60] = -5.0
    best_lp = np.full(120, -0.1)
    assert segment.worst_window_lp(frame_lp, best_lp) == pytest.approx(-4.9)
    assert segment.worst_window_lp(frame_lp[:4], best_lp[:4]) == pytest.approx(0.0)


@pytest.mark.parametrize("language", ["en", "xx", None, ""])
def test_it_abstains_on_unknown_languages(conformer, language):
    """Without a known declared language it reports the best fit, and nothing about the transcript."""
    (told,) = ask(conformer, Utterance(voice(2.0), "some words", language))
    assert told["language"] in conformer.languages
    assert told["declared_p"] is None
    assert told["text"] is None
    assert all(told[column] is None for column in TRANSCRIBED)


def test_every_spelling_of_a_language_is_accepted(conformer):
    """`ory`, `OR` and `or` are one language and use its pieces."""
    audio = voice(2.0)
    told = ask(conformer, *(Utterance(audio, make_text("or", 2), code) for code in ("or", "ory", "OR", "or-IN")))
    assert len({answer["text"] for answer in told}) == 1
    assert told[0]["declared_p"] == pytest.approx(told[1]["declared_p"])


def test_a_transcript_with_too_many_tokens_is_infeasible(conformer):
    """A transcript with more tokens than frames is infeasible and has no scores."""
    (told,) = ask(conformer, speak(0.5, "hi", words=12))
    assert told["feasible"] is False
    assert told["covered"] == 1.0
    assert all(told[column] is None for column in COMPARED)
    assert told["text"] is not None


@pytest.mark.parametrize(
    ("text", "covered", "tokens"), [("", None, None), ("। — !", None, None), ("only Latin 42", 0.0, 0)]
)
def test_a_transcript_without_known_tokens_is_not_compared(conformer, text, covered, tokens):
    """Such a transcript has no score; `covered` is the share of characters that the vocabulary can spell."""
    (told,) = ask(conformer, Utterance(voice(2.0), text, "hi"))
    assert (told["covered"], told["tokens"]) == (covered, tokens)
    assert all(told[column] is None for column in COMPARED)
    assert told["text"] is not None


def test_foreign_words_are_skipped(conformer):
    """A word in Latin letters does not change the score of the words that the vocabulary spells."""
    own = make_text("hi", 3)
    plain, mixed = ask(conformer, *(Utterance(voice(5.0), text, "hi") for text in (own, f"{own} mobile phone")))
    assert mixed["tokens"] == plain["tokens"]
    assert mixed["covered"] == pytest.approx(9 / 20)
    assert mixed["align_tok"] >= plain["align_tok"]
    assert mixed["align_frame"] <= 0


@pytest.mark.parametrize("samples", [1, 256, 399])
def test_a_segment_shorter_than_a_window_is_unscored(conformer, samples):
    """A too short segment has a fault, and the other segments of the batch have their own answers."""
    short, long = Utterance(voice(1.0)[:samples], "", "hi"), speak(1.5)
    answers = conformer.score(pad_batch([short, long]))
    assert answers[0] == Unscored(Fault("too_short", f"{samples} samples; the model needs 400"))
    assert isinstance(answers[1], Scored)
    assert answers[1].values["text"] == ask(conformer, long)[0]["text"]
    assert all(isinstance(answer, Unscored) for answer in conformer.score(pad_batch([short, short])))


def test_silence_has_finite_scores(conformer):
    """Digital silence has finite scores; the suite asks no model about audio with NaN."""
    (told,) = ask(conformer, Utterance(silence(3.0), make_text("hi", 2), "hi"))
    assert all(np.isfinite(value) for value in told.values() if isinstance(value, float))
    assert find_audio_fault(np.full(16_000, np.nan, np.float32)).kind == "not_finite"


def make_result(log_probs, sums, counts):
    best_lp, symbols = (tensor.numpy() for tensor in log_probs.max(dim=1))
    return segment.SegmentResult("hi", None, [log_probs], best_lp, symbols, sums, counts)


def test_only_blanks_give_no_language(weights_root):
    """With only blanks in all 22 languages there are no language scores, and the text is empty."""
    heard = make_result(torch.eye(257)[[256, 256]].log(), *np.zeros((2, 22)))
    assert heard.language_scores is None
    assert heard.greedy == ()
    assert heard.blank_rate == 1.0


def test_languages_are_scored_by_the_mean_of_their_greedy_text():
    """The best mean leads, a language that would write nothing counts as a guess, and shares add up to 1."""
    sums, counts = np.array([-2.0, -6.0, 0.0]), np.array([20.0, 20.0, 0.0])
    opinion = make_result(torch.zeros(1, 257), sums, counts).language_scores
    assert opinion.p.sum() == pytest.approx(1)
    assert opinion.p[0] > 0.97
    assert opinion.margin == pytest.approx(0.2)
    assert opinion.p[2] < 1e-9


@pytest.mark.parametrize("minutes", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_long_segment_is_run_in_pieces_and_scored_as_one(exported, minutes):
    """Pieces of half a minute make one text and one alignment, and do not change other segments."""
    long = Utterance(
        np.concatenate([voice(60.0, seed) for seed in range(minutes)]), make_text("hi", 40 * minutes), "hi"
    )
    neighbour = speak(2.0, "ta")
    told, beside = ask(exported, long, neighbour)
    assert told["frames"] == 2 * minutes * (30 * 100 // 8 + 1)  # each piece has a frame for its end
    assert told["feasible"] is True
    assert all(told[column] is not None for column in COMPARED)
    assert beside["text"] == ask(exported, neighbour)[0]["text"]
    assert beside["align_tok"] == pytest.approx(ask(exported, neighbour)[0]["align_tok"], abs=1e-4)


def test_a_lattice_beyond_memory_is_not_aligned(exported, monkeypatch):
    """Lattices are split into groups that fit; only a segment that never fits has no score."""
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
    """Masks must have as many columns as the head."""
    folder = tmp_path / "indicconformer-600m"
    shutil.copytree(weights_root / "indicconformer-600m", folder)
    masks = folder / "assets/language_masks.json"
    masks.write_text(masks.read_text().replace("[true, ", "[true, false, ", 1))
    with pytest.raises(VocabularyRefused, match="not 257 of the head's 5633"):
        IndicConformer(threads=1, root=lock(tmp_path), device_config=DeviceConfig(), engine="onnx")


def test_the_command_consolidates_a_download(weights_root, tmp_path, capsys):
    """`vfleet weights consolidate` makes five files of hundreds; once locked, they give the same answers."""
    target = tmp_path / "indicconformer-600m"
    source = weights_root / "indicconformer-600m"
    assert main(["weights", "consolidate", str(source), str(target)]) == 0
    assert main(["weights", "consolidate", str(source), str(target)]) == 2
    assert "exists: name a folder that does not exist" in capsys.readouterr().err
    assert main(["weights", "lock", str(tmp_path)]) == 0
    told, expected = (
        ask(IndicConformer(threads=1, root=root, device_config=DeviceConfig(), engine="torch"), speak(1.0))
        for root in (tmp_path, weights_root)
    )
    assert told == expected


def test_settings_choose_the_engine_and_its_precision(weights_root, monkeypatch):
    """VFLEET_CONFORMER_ENGINE and VFLEET_PRECISION are the defaults; ONNX Runtime stays in float32."""
    monkeypatch.setenv("VFLEET_WEIGHTS", str(weights_root))
    monkeypatch.setenv("VFLEET_DEVICE", "cpu")
    monkeypatch.setenv("VFLEET_PRECISION", "bfloat16")
    assert IndicConformer(threads=1).revision.endswith("-onnx-float32")
    monkeypatch.setenv("VFLEET_CONFORMER_ENGINE", "torch")
    assert IndicConformer(threads=1).revision.endswith("-torch-bfloat16")


@pytest.mark.parametrize(
    ("configured", "device", "chosen"),
    [(None, "cuda", "torch"), (None, "cpu", "onnx"), ("onnx", "cuda", "onnx"), ("torch", "cpu", "torch")],
)
def test_the_engine_is_torch_on_a_gpu_unless_it_is_set(monkeypatch, configured, device, chosen):
    """By default half precision runs on a GPU, and the exported graph on a CPU."""
    monkeypatch.delenv("VFLEET_CONFORMER_ENGINE", raising=False)
    if configured:
        monkeypatch.setenv("VFLEET_CONFORMER_ENGINE", configured)
    assert choose_engine(None, device) == chosen

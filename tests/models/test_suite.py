import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.support.flaky_model import FlakyModel
from tests.support.speech_samples import same_values, silence, values_of
from validation.domain import Scored, Unscored, Utterance
from validation.errors import BadInput
from validation.models.suite import Suite, load_suite
from validation.scoring.rules_file import load_rules
from validation.scoring.signals import SuiteRoles

PYTHON_TYPES = {"float": float, "int": int, "str": str, "bool": bool}


def toy_suite(*models: FlakyModel, budget_s: float = 10.0) -> Suite:
    return Suite(
        "toy",
        models,
        roles=SuiteRoles(tuple(model.name for model in models)),
        rules=load_rules("local-2"),
        budget_s=budget_s,
        min_padded_s=1.0,
    )


def spoken(duration_s: float, text: str) -> Utterance:
    return Utterance(silence(duration_s), text, "en")


# --- loading ------------------------------------------------------------------------------------------------------


def test_an_unknown_suite_is_refused_by_name():
    """The sentence says which there are."""
    with pytest.raises(BadInput, match=r"no suite is called 'lokal'; known are .*local"):
        load_suite("lokal")


def test_a_suite_without_its_packages_says_what_to_install():
    """Where the extra is not installed, the sentence names the package that is missing and the extra to install."""
    program = (
        "import sys; sys.modules['ctranslate2'] = None\n"
        "from validation.models.suite import load_suite\n"
        "load_suite('local')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.stderr.splitlines()[-1] == (
        "validation.errors.BadInput: validation.models.whisper.model needs ctranslate2, which is not installed: "
        "pip install 'validation-fleet[local]'"
    )


def test_naming_suites_loads_no_model():
    """A control plane that only knows suites by name needs none of their packages."""
    program = (
        "import sys; from validation.models.suite import SUITES\n"
        "assert not {'ctranslate2', 'onnxruntime', 'faster_whisper', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_local_suite_says_who_it_is(suite):
    """Names, weights, columns and roles, as shards and scoring take them."""
    assert suite.name == "local"
    assert list(suite.revisions) == list(suite.columns) == list(suite.roles.models) == ["whisper", "dnsmos", "silero"]
    assert suite.revisions["whisper"].startswith("d01c3014881c")
    assert suite.roles.transcriber == "whisper"
    assert suite.rules.version == "local-2"


# --- answers ------------------------------------------------------------------------------------------------------


def test_every_answer_has_exactly_the_declared_columns(suite, own_answers):
    """A model says what its columns promise, in their types, and nothing else: the shard's schema is made of them."""
    for answers in own_answers.values():
        assert list(answers) == list(suite.columns)
        for model, answer in answers.items():
            values = values_of(answer)
            assert list(values) == [column.name for column in suite.columns[model]]
            for column in suite.columns[model]:
                value = values[column.name]
                assert value is None or type(value) is PYTHON_TYPES[column.type], column


def test_answers_come_in_the_order_of_the_questions():
    """Batches go longest first; callers never see that."""
    durations_s = np.random.default_rng(3).uniform(0.2, 5, 60)
    model = FlakyModel()
    answers = toy_suite(model).score([spoken(s, f"{i}") for i, s in enumerate(durations_s)])
    assert [values_of(answer["flaky"])["said"] for answer in answers] == [f"{i}" for i in range(60)]
    assert len(model.batches) > 10
    assert model.batches[0].lengths[0] == max(batch.lengths.max() for batch in model.batches)


def test_one_bad_segment_costs_nobody_an_answer():
    """A segment that a model cannot bear is unscored by that model; its companions and other models answer."""

    class Calm(FlakyModel):
        name = "calm"

        def score(self, batch):
            return [Scored({"said": "fine"}) for _ in batch.texts]

    answers = toy_suite(FlakyModel(), Calm()).score([spoken(1, text) for text in ("a", "poison", "b")])
    assert [isinstance(answer["flaky"], Unscored) for answer in answers] == [False, True, False]
    assert all(answer["calm"] == Scored({"said": "fine"}) for answer in answers)


@pytest.mark.parametrize(
    ("audio", "kind"),
    [
        (silence(0), "too_short"),
        (silence(0.05), "too_short"),
        (np.full(16_000, np.nan, dtype=np.float32), "not_finite"),
        (np.full(16_000, np.inf, dtype=np.float32), "not_finite"),
    ],
)
def test_what_cannot_be_heard_is_put_to_nobody(audio, kind):
    """It is unscored by every model, with the reason, and its neighbours are scored."""
    model = FlakyModel()
    bad, good = toy_suite(model).score([Utterance(audio, "bad", None), spoken(1, "good")])
    assert isinstance(bad["flaky"], Unscored)
    assert bad["flaky"].fault.kind == kind
    assert good["flaky"] == Scored({"said": "good"})
    assert all("bad" not in batch.texts for batch in model.batches)


def test_nothing_asked_is_nothing_answered(suite):
    """A video without audible segments is no special case."""
    assert suite.score([]) == []


def test_real_models_isolate_a_segment_that_breaks_one_of_them(suite, clips, own_answers):
    """Half a surrogate pair is no text that a tokenizer takes: Whisper fails on it, and on nothing else."""
    broken = clips["en_hello_world"].utterance(text="he said \udcff")
    answers = suite.score([clips["fr_bonjour_monde"].utterance(), broken])
    assert answers[1]["whisper"].fault.kind == "model_failed"
    assert same_values(values_of(answers[1]["silero"]), values_of(own_answers["en_hello_world"]["silero"]))
    for model, answer in answers[0].items():
        assert same_values(values_of(answer), values_of(own_answers["fr_bonjour_monde"][model]))


def test_two_groups_in_flight_get_their_own_answers(suite, clips, own_answers):
    """A suite may be shared between threads: answers are never mixed up."""
    groups = [["es_hola_mundo", "zh_nihao_shijie"], ["ja_konnichiwa_sekai", "en_hello_world"]]
    with ThreadPoolExecutor(2) as threads:
        scored = threads.map(lambda group: suite.score([clips[name].utterance() for name in group]), groups)
    for group, answers in zip(groups, scored, strict=True):
        for name, answer in zip(group, answers, strict=True):
            assert all(same_values(values_of(answer[m]), values_of(own_answers[name][m])) for m in answer)


# --- meters -------------------------------------------------------------------------------------------------------


def test_meters_say_what_was_heard_and_what_failed():
    """Seconds are of audio, without padding; the fill tells how much padding there was."""
    suite = toy_suite(FlakyModel(), budget_s=100)
    suite.score([spoken(2, "a"), spoken(1, "poison"), spoken(0.01, "short")])
    meter = suite.meters["flaky"]
    assert (meter.segments, meter.faults, meter.audio_s) == (2, 1, 3.0)
    assert (suite.fill.real_s, suite.fill.padded_s) == (3.0, 4.0)


def test_models_are_timed_by_the_cores_they_use(suite, own_answers):
    """Whisper and DNSMOS take nearly all of the time, and each says how much."""
    meters = suite.meters
    assert meters["whisper"].cpu_s > 10 * meters["silero"].cpu_s > 0
    assert meters["dnsmos"].wall_s > 0
    assert meters["whisper"].faults <= 1

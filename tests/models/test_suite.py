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
from validation.scoring.rules_io import load_rules
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
    """The error lists the known suites."""
    with pytest.raises(BadInput, match=r"no suite is called 'lokal'; known are .*local"):
        load_suite("lokal")


def test_a_suite_without_its_packages_says_what_to_install():
    """The error names the missing package and the extra to install."""
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
    """A control machine needs none of the models' packages to know the suites by name."""
    program = (
        "import sys; from validation.models.suites import SUITES\n"
        "assert not {'ctranslate2', 'onnxruntime', 'faster_whisper', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_local_suite_describes_itself(suite):
    """Names, weights, columns and roles are there for shards and scoring."""
    assert suite.name == "local"
    assert list(suite.revisions) == list(suite.columns) == list(suite.roles.models) == ["whisper", "dnsmos", "silero"]
    assert suite.revisions["whisper"].startswith("d01c3014881c")
    assert suite.roles.asr_model == "whisper"
    assert suite.rules.version == "local-3"


# --- answers ------------------------------------------------------------------------------------------------------


def test_every_answer_has_exactly_the_declared_columns(suite, own_answers):
    """Answers have the declared columns and types, from which the shard's schema is made."""
    for answers in own_answers.values():
        assert list(answers) == list(suite.columns)
        for model, answer in answers.items():
            values = values_of(answer)
            assert list(values) == [column.name for column in suite.columns[model]]
            for column in suite.columns[model]:
                value = values[column.name]
                assert value is None or type(value) is PYTHON_TYPES[column.type], column


def test_answers_come_in_input_order():
    """Batches are scored longest first; callers never see that order."""
    durations_s = np.random.default_rng(3).uniform(0.2, 5, 60)
    model = FlakyModel()
    answers = toy_suite(model).score([spoken(s, f"{i}") for i, s in enumerate(durations_s)])
    assert [values_of(answer["flaky"])["said"] for answer in answers] == [f"{i}" for i in range(60)]
    assert len(model.batches) > 10
    assert model.batches[0].lengths[0] == max(batch.lengths.max() for batch in model.batches)


def test_a_bad_segment_costs_no_other_segment_its_answer():
    """A segment on which one model fails is unscored by that model; all other answers are there."""

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
def test_unscorable_audio_reaches_no_model(audio, kind):
    """It is unscored by every model, with the reason, and its neighbours are scored."""
    model = FlakyModel()
    bad, good = toy_suite(model).score([Utterance(audio, "bad", None), spoken(1, "good")])
    assert isinstance(bad["flaky"], Unscored)
    assert bad["flaky"].fault.kind == kind
    assert good["flaky"] == Scored({"said": "good"})
    assert all("bad" not in batch.texts for batch in model.batches)


def test_no_utterances_give_no_answers(suite):
    """A video without decodable segments is no special case."""
    assert suite.score([]) == []


def test_real_models_isolate_a_failing_segment(suite, clips, own_answers):
    """Whisper's tokenizer refuses half a surrogate pair; only that segment is unscored, and only by Whisper."""
    broken = clips["en_hello_world"].utterance(text="he said \udcff")
    answers = suite.score([clips["fr_bonjour_monde"].utterance(), broken])
    assert answers[1]["whisper"].fault.kind == "model_failed"
    assert same_values(values_of(answers[1]["silero"]), values_of(own_answers["en_hello_world"]["silero"]))
    for model, answer in answers[0].items():
        assert same_values(values_of(answer), values_of(own_answers["fr_bonjour_monde"][model]))


def test_concurrent_callers_get_their_own_answers(suite, clips, own_answers):
    """A suite may be shared between threads: answers are never mixed up."""
    groups = [["es_hola_mundo", "zh_nihao_shijie"], ["ja_konnichiwa_sekai", "en_hello_world"]]
    with ThreadPoolExecutor(2) as threads:
        scored = threads.map(lambda group: suite.score([clips[name].utterance() for name in group]), groups)
    for group, answers in zip(groups, scored, strict=True):
        for name, answer in zip(group, answers, strict=True):
            assert all(same_values(values_of(answer[m]), values_of(own_answers[name][m])) for m in answer)


# --- meters -------------------------------------------------------------------------------------------------------


def test_stats_count_audio_and_faults():
    """Seconds are of audio without padding; the padding statistics show the share of padding."""
    suite = toy_suite(FlakyModel(), budget_s=100)
    suite.score([spoken(2, "a"), spoken(1, "poison"), spoken(0.01, "short")])
    meter = suite.stats["flaky"]
    assert (meter.segments, meter.faults, meter.audio_s) == (2, 1, 3.0)
    assert (suite.padding.real_s, suite.padding.padded_s) == (3.0, 4.0)


def test_models_are_timed_by_the_cores_they_use(suite, own_answers):
    """Whisper and DNSMOS take nearly all of the time, and each reports its own."""
    meters = suite.stats
    assert meters["whisper"].cpu_s > 10 * meters["silero"].cpu_s > 0
    assert meters["dnsmos"].wall_s > 0
    assert meters["whisper"].faults <= 1

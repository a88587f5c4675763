from collections.abc import Sequence

import pytest

from tests.support.speech_samples import silence
from validation.domain import Answer, Column, DecodedSegment, Fault, Scored, Segment, Unscored, Utterance
from validation.models.base import Batch
from validation.models.suite import Suite
from validation.models.suites import SKIPPED, SUITES, Cascade, cascade_name_of
from validation.scoring.rules_io import load_rules
from validation.scoring.signals import SuiteRoles, segment_signals

CASCADE = Cascade("toy-cascade", skipped_model="dear", min_declared_p={"cheap": 0.5, "fair": 0.8})


class ScriptedModel:
    """Answers by its entry in the transcript: ``<name>=<language>:<p of the declared language>``."""

    columns = (
        Column("language", "str", "ISO 639", "What it hears."),
        Column("declared_p", "float", "probability", "The declared language's."),
    )
    languages = None
    revision = "1"

    def __init__(self, name: str) -> None:
        self.name = name
        self.batches: list[Batch] = []

    def score(self, batch: Batch) -> Sequence[Answer]:
        self.batches.append(batch)
        return [self._hear(dict(word.split("=") for word in text.split())) for text in batch.texts]

    def _hear(self, script: dict[str, str]) -> Answer:
        language, _, p = script.get(self.name, "hi:0.9").partition(":")
        if language == "fails":
            raise RuntimeError("told to fail")
        return Scored({"language": language, "declared_p": float(p) if p else None})


def score(*asked: str | Utterance, language: str | None = "hin", cascade: Cascade | None = CASCADE):
    """Score transcripts with three LID models, the skippable one in the middle; return models and answers."""
    utterances = [
        one if isinstance(one, Utterance) else Utterance(silence(1.0 + 0.1 * n), one, language)
        for n, one in enumerate(asked)
    ]
    models = {name: ScriptedModel(name) for name in ("cheap", "dear", "fair")}
    suite = Suite(
        "toy",
        list(models.values()),
        roles=SuiteRoles(tuple(models)),
        rules=load_rules("local-2"),
        budget_s=100.0,
        min_padded_s=1.0,
        cascade=cascade,
    )
    return models, suite.score(utterances)


DOUBTS = {
    "one hears another": "fair=ur:0.9",
    "one is unsure": "fair=hi:0.79",
    "one does not know the language": "cheap=ta",
    "one failed": "cheap=fails",
    "both are sure of another": "cheap=ta:0.0 fair=ta:0.0",
}


@pytest.mark.parametrize("text", DOUBTS.values(), ids=DOUBTS)
def test_any_doubt_is_decided_by_the_skippable_model(text):
    """Disagreement, low probability, abstention and failure are each enough."""
    models, (answers,) = score(text)
    assert answers["dear"] == Scored({"language": "hi", "declared_p": 0.9})
    assert len(models["dear"].batches) == 1


def test_a_confirmed_language_skips_the_model():
    """If both other models confirm the language, the model does not run and its answer is the skip reason."""
    models, (answers,) = score("")
    assert answers["dear"] == SKIPPED
    assert list(answers) == ["cheap", "dear", "fair"]
    assert models["dear"].batches == []


@pytest.mark.parametrize("wanted", [("dear",), ("dear", "cheap"), ("fair",), None])
def test_the_batch_changes_neither_requested_models_nor_answers(wanted):
    """Each utterance is scored by its requested models only, whatever the other utterances of its batch request."""
    own = Utterance(silence(1.0), "", "hin", wanted)
    _, (alone,) = score(own)
    for other in (None, ("cheap",), ("dear",)):
        _, (together, beside) = score(own, Utterance(silence(1.1), "", "hin", other))
        assert together == alone
        assert set(beside) == set(other or ("cheap", "dear", "fair"))
    assert set(alone) == set(wanted or ("cheap", "dear", "fair"))
    if wanted and "dear" in wanted:
        assert isinstance(alone["dear"], Scored)


def test_without_a_declared_language_no_model_is_skipped():
    """Without a declared language there is nothing to confirm."""
    for language in (None, "xx"):
        _, (answers,) = score("", language=language)
        assert isinstance(answers["dear"], Scored)


def test_only_unconfirmed_rows_reach_the_skippable_model():
    """The rest of the batch is padded no further than it needs, and answers stay in order."""
    models, answers = score("", "fair=ur:0.9 dear=ur:0.1", "", "cheap=ta:0.1 dear=ta:0.2", "")
    (batch,) = models["dear"].batches
    assert sorted(batch.lengths) == [17_600, 20_800]
    assert batch.waveforms.shape == (2, 20_800)
    heard = [answer["dear"].values["language"] if isinstance(answer["dear"], Scored) else None for answer in answers]
    assert heard == [None, "ur", None, "ta", None]


def test_a_suite_without_a_cascade_skips_no_model():
    """By default every model scores every segment."""
    models, _ = score("", "", cascade=None)
    assert all(sum(map(len, model.batches)) == 2 for model in models.values())


def test_the_cascade_is_named_in_the_policy():
    """The suites differ by name and policy only; other bounds need another policy name."""
    assert SUITES["indic"].cascade is None
    assert (cascade_name_of("indic"), cascade_name_of("local"), cascade_name_of("indic-cascade")) == (
        "all",
        "all",
        "cascade-1",
    )
    assert SUITES["indic-cascade"].models == SUITES["indic"].models


def test_a_skipped_model_is_no_reason_against_a_segment():
    """The rules of `indic` distinguish a skipped model from a failed one."""
    suite, recipe = SUITES["indic-cascade"], load_rules("indic-2")
    roles = SuiteRoles(tuple(suite.models), None, suite.lid_models)
    sure = Scored({"language": "hi", "declared_p": 0.9})
    conformer = Scored(
        sure.values | {"text": "", "align_tok": -0.1, "align_min": -1.0, "feasible": True, "covered": 1.0}
    )
    answers = {"conformer": conformer, "voxlingua": sure, "dnsmos": Scored({"sig": 4.0, "bak": 4.0, "ovr": 4.0})}
    answers |= {"silero": Scored({"speech_ratio": 0.8, "speech_s": 1.6})}
    decoded = DecodedSegment(Segment("v", "s", "नमस्ते", "hi"), silence(2.0) + 0.1)
    reasons = {}
    for kind, mms in {"spared": SKIPPED, "failed": Unscored(Fault("model_failed", "it broke"))}.items():
        signals = segment_signals(decoded, answers | {"mms": mms}, language="hi", roles=roles)
        assert (signals["language_votes_for"], signals["language_abstentions"]) == (2, 1)
        reasons[kind] = recipe.evaluate(signals).reasons
    assert reasons["failed"] == ("unscored:mms", *reasons["spared"])

"""`make bench-calibration`: what is scored, what is kept between runs, and what the report says."""

import sys
from pathlib import Path

import numpy as np
import pytest

from validation.calibration.fault_injection import SOUND, ClipVariant
from validation.calibration.metrics import EvaluatedClip
from validation.domain import Fault, Scored, Unscored, Utterance
from validation.scoring.verdict import Condition, Rule, Rules

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from answer_cache import CachedSuite
from truth_report import describe_group, format_languages, format_table, group_clips, group_languages

RULES = Rules(
    version="v",
    required_models=(),
    rules=(
        Rule(reason="low", verdict="review", when=(Condition(column="p", op="<", value=0.5),), sentence="s"),
        Rule(reason="low", verdict="reject", when=(Condition(column="p", op="<", value=0.1),), sentence="s"),
    ),
)


def evaluate(clip: str, language: str, fault: str, p: float, *, is_synthetic: bool = False) -> EvaluatedClip:
    audio = np.zeros(1, np.float32)
    return EvaluatedClip(ClipVariant(clip, fault, fault, audio, "", "xx", language, is_synthetic), {"p": p})


@pytest.fixture
def evaluated():
    """Hindi, synthetic, whose faults are found, and English, whose faults are not."""
    return [
        evaluate("a", "hi", SOUND, 0.9, is_synthetic=True),
        evaluate("a", "hi", "noise", 0.05, is_synthetic=True),
        evaluate("b", "en", SOUND, 0.4),
        evaluate("b", "en", "noise", 0.8),
    ]


def test_each_language_is_reported_for_itself(evaluated):
    """A fault that is found in one language only is not averaged over both, and the label does not count."""
    told = {group.name: describe_group(group, RULES) for group in group_languages(evaluated)}
    assert told["hi"]["faults"]["noise"]["rejected"]["value"] == 1
    assert told["en"]["faults"]["noise"]["not_accepted"]["value"] == 0
    assert told["en"]["clean"]["not_accepted"]["value"] == 1
    assert told["hi"]["faults"]["noise"]["auc"] == {"p low": 1.0}
    assert (told["hi"]["faults"]["noise"]["margin_auc"], told["en"]["faults"]["noise"]["margin_auc"]) == (1, 0)
    header, _, *rows = format_languages(told)
    assert header == "| | clips | nothing | noise |"
    assert [row.split(" | ")[:3] for row in rows] == [["| en", "1", "100 [21 100]"], ["| hi", "1", "0 [0 79]"]]


def test_synthetic_speech_is_a_group_of_its_own(evaluated):
    """The groups of natural and synthetic speech add up to all."""
    groups = {group.name: group for group in group_clips(evaluated)}
    assert len(groups["natural"].evaluated) + len(groups["synthetic"].evaluated) == len(groups["all"].evaluated) == 4
    table = list(format_table({name: describe_group(group, RULES) for name, group in groups.items() if group}))
    assert len({len(line) for line in table}) == 1


def test_clips_that_limits_were_chosen_on_are_reported_apart_from_held_out_clips(evaluated):
    """The two parts of natural speech add up to natural speech, and those of synthetic speech to synthetic speech."""
    groups = {group.name: group.evaluated for group in group_clips(evaluated)}
    for kind in ("natural", "synthetic"):
        parts = [*groups[f"{kind}, set on"], *groups[f"{kind}, held out"]]
        assert sorted(map(id, parts)) == sorted(map(id, groups[kind]))


class Counted:
    """A suite that counts what it is asked."""

    def __init__(self):
        self.columns, self.revisions, self.asked = {"ear": ()}, {"ear": "1"}, 0

    def score(self, utterances):
        self.asked += len(utterances)
        return [{"ear": Scored({"p": 0.5}), "nose": Unscored(Fault("too_short", "x"))} for _ in utterances]


def test_answers_are_kept_between_runs(tmp_path):
    """Only what differs in samples, transcript or language is scored again; faults are kept as faults."""
    suite = Counted()
    audio = np.ones(8, np.float32)
    one, other = Utterance(audio, "a", "hi"), Utterance(audio, "b", "hi")
    for asked, total in (([one], 1), ([one, other], 2), ([other, one], 2)):
        cached = CachedSuite("any", tmp_path)
        cached.__dict__["suite"] = suite
        answers = cached.score(asked)
        assert cached.are_scored([*asked, Utterance(audio, "c", "hi")]) == [True] * len(asked) + [False]
        assert suite.asked == total
        assert answers[0]["nose"].fault.kind == "too_short"
        assert answers[0]["ear"].values == {"p": 0.5}

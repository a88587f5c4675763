"""Fixtures: a box whose suite has two models, one of which can be replaced by a later revision."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from tests.support.worker_fixtures import PeakScorer
from validation.domain import Column, Scored
from validation.models.suites import SUITES, SuiteSpec
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Condition, Rule, Rules
from validation.worker.chunk.context import ChunkContext

QUIET = Rule(
    reason="quiet",
    verdict="reject",
    when=(Condition(column="ear_peak", op="<", value=0.05),),
    sentence="Hardly anything is heard.",
)
STALE = Rule(
    reason="stale",
    verdict="review",
    when=(Condition(column="nose_age", op=">", value=1.0),),
    sentence="The revision is newer than 1.",
)


@dataclass
class TwoScorer(PeakScorer):
    """A scorer with two models: `ear` returns the loudest sample, `nose` its own revision. `runs` counts the runs of
    each."""

    name: str = "pair"
    roles: SuiteRoles = field(default_factory=lambda: SuiteRoles(("ear", "nose"), lid_models=("ear", "nose")))
    rules: Rules = field(
        default_factory=lambda: Rules(version="pair-1", required_models=("ear",), rules=(QUIET, STALE))
    )
    revisions: dict = field(default_factory=lambda: {"ear": "1", "nose": "1"})
    columns: dict = field(
        default_factory=lambda: {
            "ear": (
                Column("peak", "float", "ratio", "Loudest sample."),
                Column("language", "str", "ISO 639", "Predicted."),
                Column("declared_p", "float", "probability", "Of the declared language."),
            ),
            "nose": (
                Column("age", "float", "days", "Its revision."),
                Column("language", "str", "ISO 639", "Predicted."),
                Column("declared_p", "float", "probability", "Of the declared language."),
            ),
        }
    )
    runs: dict = field(default_factory=lambda: {"ear": 0, "nose": 0})

    def score(self, utterances):
        answers = []
        for utterance in utterances:
            wanted = utterance.requested_models or tuple(self.columns)
            for model in wanted:
                self.runs[model] += 1
            answer = {"ear": self._ear(utterance), "nose": self._nose()}
            answers.append({model: answer[model] for model in wanted})
        return answers

    def _ear(self, utterance):
        return Scored({"peak": float(np.abs(utterance.audio).max()), "language": "hi", "declared_p": 0.9})

    def _nose(self):
        revision = self.revisions["nose"]
        return Scored({"age": float(revision), "language": "hi" if revision == "1" else "ta", "declared_p": 0.5})


@pytest.fixture
def pair(box, monkeypatch):
    """The box with the suite `pair`; `upgrade` gives `nose` another revision."""
    spec = SuiteSpec({"ear": "", "nose": ""}, None, ("ear", "nose"), "local-1", 1.0, 1.0, "local")
    monkeypatch.setitem(SUITES, "pair", spec)
    monkeypatch.setenv("VFLEET_SUITE", "pair")
    scorer = TwoScorer()
    session = replace_scorer(box.context, scorer)
    monkeypatch.setattr("validation.services.open_engine", lambda *_: box.engine)  # for commands in this process
    return Pair(box, session, scorer)


def replace_scorer(session: ChunkContext, scorer: TwoScorer) -> ChunkContext:
    return replace(session, scorer=scorer)


@dataclass
class Pair:
    """The box, its scorer, and a way to upgrade a model."""

    box: object
    session: ChunkContext
    scorer: TwoScorer

    def upgrade(self, revision: str) -> None:
        self.scorer = TwoScorer(revisions={"ear": "1", "nose": revision})
        self.session = replace_scorer(self.session, self.scorer)

"""A suite of which only some models are asked: for videos that have the others' answers in an earlier shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from validation.domain import Column, Utterance
from validation.models.base import Scorer, ScoringJob
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Condition, Rule, Rules

PARTIAL = Rules(
    version="partial-1",
    required_models=(),
    rules=(
        Rule(
            reason="partial",
            verdict="review",
            when=(Condition(column="text_normalised", op="present"),),  # always: it is never null
            sentence="Only some models were asked; `vfleet select` judges it together with the others' answers.",
        ),
    ),
)
"""The verdict of a shard that does not hold all that its suite's rules read. A rule that finds nothing does not fire,
so those would accept what nobody heard."""


@dataclass(slots=True)
class ModelSubsetScorer:
    """Asks some models of a suite. Its rows hold their columns alone, and no verdict but ``partial``."""

    whole: Scorer
    name: str
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]

    def begin(self, utterances: Sequence[Utterance]) -> ScoringJob:
        """Ask the models that are wanted."""
        wanted = tuple(self.columns)
        return self.whole.begin([replace(utterance, wanted=wanted) for utterance in utterances])


def restrict_models(scorer: Scorer, wanted: Sequence[str] | None) -> Scorer:
    """Ask only the models that are wanted. One that the suite does not have makes it ask all: more is never wrong."""
    if wanted is None or not set(wanted) < set(scorer.columns):
        return scorer
    roles = scorer.roles
    kept = tuple(model for model in scorer.columns if model in wanted)
    return ModelSubsetScorer(
        whole=scorer,
        name=scorer.name,
        roles=SuiteRoles(
            kept,
            roles.transcriber if roles.transcriber in kept else None,
            tuple(judge for judge in roles.judges if judge in kept),
        ),
        rules=PARTIAL,
        revisions={model: scorer.revisions[model] for model in kept},
        columns={model: scorer.columns[model] for model in kept},
    )

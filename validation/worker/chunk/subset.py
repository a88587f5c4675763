"""Score with some models of a suite, for videos that have the answers of the other models in an earlier shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from validation.domain import Column, Utterance
from validation.models.scorer import Scorer, ScoringJob
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Condition, Rule, Rules

SUBSET_RULES = Rules(
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
"""The rules of a shard that lacks columns which the rules of its suite read. Rules do not fire on absent columns, so
the rules of the suite would accept segments that their models have not scored."""


@dataclass(slots=True)
class ModelSubsetScorer:
    """Scores with some models of a suite. Its rows hold their columns only, and the only reason is ``partial``."""

    suite: Scorer
    name: str
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]

    def begin(self, utterances: Sequence[Utterance]) -> ScoringJob:
        """Start to score utterances with the models of the subset."""
        wanted = tuple(self.columns)
        return self.suite.begin([replace(utterance, requested_models=wanted) for utterance in utterances])


def restrict_models(scorer: Scorer, requested: Sequence[str] | None) -> Scorer:
    """Restrict a suite to the requested models. A name that the suite does not have makes it score with all models."""
    if requested is None or not set(requested) < set(scorer.columns):
        return scorer
    roles = scorer.roles
    kept = tuple(model for model in scorer.columns if model in requested)
    return ModelSubsetScorer(
        suite=scorer,
        name=scorer.name,
        roles=SuiteRoles(
            kept,
            roles.asr_model if roles.asr_model in kept else None,
            tuple(model for model in roles.lid_models if model in kept),
            roles.known_languages,
        ),
        rules=SUBSET_RULES,
        revisions={model: scorer.revisions[model] for model in kept},
        columns={model: scorer.columns[model] for model in kept},
    )

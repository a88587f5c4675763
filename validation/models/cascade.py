"""A cascade: skip one LID model for segments on which the other LID models are confident."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from validation.domain import Answer, Fault, Scored, Unscored
from validation.languages import normalize_language_code
from validation.models.base import Batch
from validation.scoring.verdict import Condition

SKIPPED = Unscored(Fault("not_asked", "the cheaper judges are sure of the declared language"))
"""The answer of the skipped model. Shards hold this sentence and rules compare with it, so it does not change."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Skips one LID model for segments whose declared language the other LID models confirm.

    The language is confirmed if every other model knows it, has it as first choice, and gives it at least the
    probability that is set for that model. Any disagreement, abstention or failure is decided by the skipped model.
    So all models still score every wrong label; only the third confirmation of a right label is left out.
    """

    name: str
    """Written into every shard's provenance; other bounds need another name."""
    skipped_model: str
    min_declared_p: Mapping[str, float]
    """The least probability of the declared language, for each of the other models."""

    @property
    def bounds(self) -> tuple[Condition, ...]:
        """The bounds as conditions on a row of a shard."""
        return tuple(
            Condition(column=f"{model}_declared_p", op=">=", value=p) for model, p in self.min_declared_p.items()
        )

    def is_confident(self, declared: str | None, answers: Mapping[str, Answer]) -> bool:
        """Whether the other models confirm a segment's declared language, given their answers by name."""
        language = normalize_language_code(declared)
        return language is not None and all(
            _confirms(answers[model], language, min_p) for model, min_p in self.min_declared_p.items()
        )

    def find_confident(self, batch: Batch, answers: Sequence[Mapping[str, Answer]]) -> set[int]:
        """Find the rows for which the model is ``SKIPPED``; never a row that requests its models by name.

        Args:
            batch: the segments that the other models have scored.
            answers: the other models' answers, by name, for each row.
        """
        unrestricted = (row for row, requested in enumerate(batch.requested_models) if requested is None)
        return {row for row in unrestricted if self.is_confident(batch.languages[row], answers[row])}


def _confirms(answer: Answer, language: str, min_p: float) -> bool:
    if not isinstance(answer, Scored) or answer.values["language"] != language:
        return False
    declared_p = answer.values["declared_p"]
    return declared_p is not None and float(declared_p) >= min_p

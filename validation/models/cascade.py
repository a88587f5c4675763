"""A policy that spares an expensive judge where cheaper ones are sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from validation.domain import Answer, Fault, Scored, Unscored
from validation.models.base import Batch
from validation.models.languages import canonical
from validation.scoring.verdict import Condition

SKIPPED = Unscored(Fault("not_asked", "the cheaper judges are sure of the declared language"))
"""What is said of a segment for a judge who was spared. Rules know the sentence."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Asks one judge only about segments whose declared language the cheaper judges do not settle.

    Settled is: every cheaper judge knows the language, names it first, and gives it the probability that is asked of
    that judge. Any doubt, any abstention and any failure goes to the judge who was to be spared. So a wrong label is
    still judged by all; what is lost is the third opinion on what two already confirm.
    """

    name: str
    """Stands in every shard's provenance; another bound is another name."""
    spared: str
    sure_p: Mapping[str, float]
    """From which probability of the declared language each cheaper judge is sure."""

    @property
    def bounds(self) -> tuple[Condition, ...]:
        """The bounds as conditions on a row of a shard."""
        return tuple(Condition(column=f"{judge}_declared_p", op=">=", value=p) for judge, p in self.sure_p.items())

    def settles(self, declared: str | None, answers: Mapping[str, Answer]) -> bool:
        """Say whether the cheaper judges settle a segment's language, given their answers by name."""
        language = canonical(declared)
        return language is not None and all(
            _is_sure(answers[judge], language, sure_p) for judge, sure_p in self.sure_p.items()
        )

    def find_confident(self, batch: Batch, answers: Sequence[Mapping[str, Answer]]) -> set[int]:
        """Say for which rows the spared judge is ``SKIPPED``: who wants it by name is never one of them.

        Args:
            batch: what the cheaper judges have heard.
            answers: theirs, by name, for each row.
        """
        everybodys = (row for row, wanted in enumerate(batch.wanted) if wanted is None)
        return {row for row in everybodys if self.settles(batch.languages[row], answers[row])}


def _is_sure(answer: Answer, language: str, sure_p: float) -> bool:
    if not isinstance(answer, Scored) or answer.values["language"] != language:
        return False
    declared_p = answer.values["declared_p"]
    return declared_p is not None and float(declared_p) >= sure_p

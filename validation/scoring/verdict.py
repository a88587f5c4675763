"""Verdicts: an ordered, versioned list of rules over the signals of one segment."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from validation.domain import Scalar

Decision: TypeAlias = Literal["accept", "review", "reject"]
"""From mild to severe. ``review`` asks a person to listen, or a better model to score."""
_SEVERITY: tuple[Decision, ...] = ("accept", "review", "reject")

Operator: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!=", "missing", "present"]
_EXACT = 2**53
"""Up to this value an integer and a float compare alike in every engine. Counts in shards stay far below."""
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the rules for one segment: ``accept`` exactly when there is no reason."""

    verdict: Decision
    reasons: tuple[str, ...]
    """Each reason once, in the order of the rules."""
    rules_version: str


class _StrictModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_StrictModel):
    """One comparison of one column, simple enough for any engine that reads shards to repeat."""

    column: str
    op: Operator
    value: Scalar = None

    @model_validator(mode="after")
    def _fit_value_to_operator(self) -> Self:
        if (self.value is None) is not (self.op in {"missing", "present"}):
            raise ValueError(f"operator {self.op} takes {'no' if self.value is not None else 'a'} value")
        if self.op in {"<", "<=", ">", ">="} and isinstance(self.value, bool | str):
            raise ValueError(f"operator {self.op} takes a number, not {self.value!r}")
        if isinstance(self.value, float) and not isfinite(self.value):
            raise ValueError(f"{self.value} compares with nothing")
        if isinstance(self.value, int) and abs(self.value) > _EXACT:
            raise ValueError(f"{self.value} is too large to be compared exactly")
        return self

    def holds(self, signals: Mapping[str, Scalar]) -> bool:
        """Whether the condition holds. A comparison with a missing signal never holds, not even ``!=``."""
        signal = signals.get(self.column)
        if self.op in {"missing", "present"}:
            return (signal is None) is (self.op == "missing")
        return signal is not None and _COMPARISONS[self.op](signal, self.value)


class Rule(_StrictModel):
    """A reason against a segment, given when all conditions of the rule hold."""

    reason: str = Field(pattern=r"^[a-z][a-z0-9_]*(:[a-z0-9_]+)?$")
    verdict: Literal["review", "reject"]
    when: tuple[Condition, ...] = Field(min_length=1)
    sentence: str = Field(min_length=1)
    """The reason, for a person."""

    def matches(self, signals: Mapping[str, Scalar]) -> bool:
        return all(condition.holds(signals) for condition in self.when)


class Rules(_StrictModel):
    """A versioned list of rules. A change to any rule is a new version."""

    version: str = Field(min_length=1)
    required_models: tuple[str, ...]
    """Models without whose answer no segment is accepted."""
    rules: tuple[Rule, ...]

    @cached_property
    def effective(self) -> tuple[Rule, ...]:
        """The rules that every file implies (audio decoded, length as declared, models answered), then the file's."""
        return (_UNDECODABLE, _SHORTER, _LONGER, *map(_unscored, self.required_models), *self.rules)

    @property
    def columns(self) -> frozenset[str]:
        """Every column that a rule reads."""
        return frozenset(condition.column for rule in self.effective for condition in rule.when)

    def evaluate(self, signals: Mapping[str, Scalar]) -> Verdict:
        """Evaluate the rules on one segment's signals, named as the columns of a shard.

        The verdict is the severest of the matching rules, ``accept`` if no rule matches.
        """
        matching = [rule for rule in self.effective if rule.matches(signals)]
        decisions: list[Decision] = ["accept", *(rule.verdict for rule in matching)]
        verdict = max(decisions, key=_SEVERITY.index)
        return Verdict(verdict, tuple(dict.fromkeys(rule.reason for rule in matching)), self.version)


_UNDECODABLE = Rule(
    reason="undecodable",
    verdict="reject",
    when=(Condition(column="fault", op="present"),),
    sentence="The audio could not be decoded.",
)


_SHORTER = Rule(
    reason="length_differs",
    verdict="review",
    when=(Condition(column="length_difference_s", op="<", value=-0.5),),
    sentence="The audio is shorter than its record says: its end may be missing.",
)
"""Records round to a tenth of a second, and encoders pad by up to 0.15 s."""
_LONGER = Rule(
    reason="length_differs",
    verdict="review",
    when=(Condition(column="length_difference_s", op=">", value=2.0),),
    sentence="The audio is longer than its record says: it may hold more than the segment.",
)
"""Clips are cut with up to a second of context on each side."""


def _unscored(model: str) -> Rule:
    """Make the rule that sends a decoded segment without an answer of a required model to review."""
    return Rule(
        reason=f"unscored:{model}",
        verdict="review",
        when=(Condition(column="fault", op="missing"), Condition(column=f"{model}_fault", op="present")),
        sentence=f"The model {model} gave no answer.",
    )

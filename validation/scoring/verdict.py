"""Compute the verdict of one segment from its signals, by an ordered, versioned list of rules."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from validation.domain import UNKNOWN_LANGUAGE, UNSUPPORTED_LANGUAGE, Fault, Scalar

Decision: TypeAlias = Literal["accept", "review", "reject"]
"""The decisions, from mild to severe. ``review`` asks for a person to listen, or for a better model to score."""
_SEVERITY: tuple[Decision, ...] = ("accept", "review", "reject")

Operator: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!=", "missing", "present"]
MAX_MARGIN = 4.0
"""Limit of the absolute value of a margin. Segments with this margin are not ranked among each other."""
LANGUAGE = "language_code"
"""The column with the canonical code of a segment's declared language. It selects rules and limits for the segment."""
_EXACT = 2**53
"""Up to this value, every query engine compares an integer with a float correctly. Counts in shards stay far below."""
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
    margin: float
    """Signed distance to the boundary of the rules, within ``MAX_MARGIN`` of 0: see ``Rules.margin``."""


class _StrictModel(BaseModel):
    """Base class of the parts of a rules file. Objects are frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _sort_limits(limits: object) -> object:
    """Return a TOML table as a sorted tuple, which is hashable and does not depend on the order in the file."""
    return tuple(sorted(limits.items())) if isinstance(limits, dict) else limits


class Condition(_StrictModel):
    """A test of one column: a comparison with a value, or whether the column is null.

    Any engine that reads shards can repeat the test.
    """

    column: str
    op: Operator
    value: Scalar = None
    by_language: Annotated[tuple[tuple[str, float], ...], BeforeValidator(_sort_limits)] = ()
    """Limits of single languages, by their canonical code; ``value`` is the limit of every other language."""

    @model_validator(mode="after")
    def _fit_value_to_operator(self) -> Self:
        """Raise ``ValueError`` if the operator does not fit the value or the limits by language."""
        if (self.value is None) is not (self.op in {"missing", "present"}):
            raise ValueError(f"operator {self.op} takes {'no' if self.value is not None else 'a'} value")
        if self.by_language and not self.is_ordered:
            raise ValueError(f"operator {self.op} takes no limits by language")
        for value in (self.value, *dict(self.by_language).values()):
            self._check_value(value)
        return self

    def _check_value(self, value: Scalar) -> None:
        """Raise ``ValueError`` for a value that the operator cannot compare, or not exactly."""
        if self.is_ordered and isinstance(value, bool | str):
            raise ValueError(f"operator {self.op} takes a number, not {value!r}")
        if isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{value} compares with nothing")
        if isinstance(value, int) and abs(value) > _EXACT:
            raise ValueError(f"{value} is too large to be compared exactly")

    @property
    def is_ordered(self) -> bool:
        """Whether the operator is ``<``, ``<=``, ``>`` or ``>=``, which compare a number with a limit."""
        return self.op in {"<", "<=", ">", ">="}

    def limit_for(self, language: Scalar) -> Scalar:
        """Return the value with which the condition compares a signal in a language.

        ``language`` is a canonical code, or None for an unknown language.
        """
        return dict(self.by_language).get(str(language), self.value) if self.by_language else self.value

    def holds(self, signals: Mapping[str, Scalar]) -> bool:
        """Return whether the condition holds. With a missing signal no comparison holds, not even ``!=``."""
        signal = signals.get(self.column)
        if self.op in {"missing", "present"}:
            return (signal is None) is (self.op == "missing")
        return signal is not None and _COMPARISONS[self.op](signal, self.limit_for(signals.get(LANGUAGE)))


class Rule(_StrictModel):
    """A reason against a segment, given when all conditions of the rule hold."""

    reason: str = Field(pattern=r"^[a-z][a-z0-9_]*(:[a-z0-9_]+)?$")
    verdict: Literal["review", "reject"]
    when: tuple[Condition, ...] = Field(min_length=1)
    sentence: str = Field(min_length=1)
    """The reason as a sentence for users."""
    languages: tuple[str, ...] = ()
    """Canonical codes of the languages that the rule is for. Empty if the rule is for every segment, also for segments
    of an unknown language."""

    def matches(self, signals: Mapping[str, Scalar]) -> bool:
        """Return whether the rule is for the segment's language and all its conditions hold."""
        if self.languages and signals.get(LANGUAGE) not in self.languages:
            return False
        return all(condition.holds(signals) for condition in self.when)

    @property
    def columns(self) -> frozenset[str]:
        """Every column that the rule reads."""
        by_language = bool(self.languages) or any(condition.by_language for condition in self.when)
        return frozenset({*(condition.column for condition in self.when), *({LANGUAGE} if by_language else ())})


class Rules(_StrictModel):
    """A versioned list of rules. A change to any rule is a new version."""

    version: str = Field(min_length=1)
    required_models: tuple[str, ...]
    """A segment is accepted only if each of these models gave an answer."""
    rules: tuple[Rule, ...]
    typical: Mapping[str, float] = {}
    """Medians over clean speech, by column; a column may lack one. ``unit_of`` derives the unit of a margin from it."""

    @cached_property
    def effective(self) -> tuple[Rule, ...]:
        """The implied rules (audio decoded, length as declared, models answered), followed by the rules of the file."""
        implied = (_unscored_rule, _unknown_language_rule, _unsupported_language_rule)
        of_models = (make_rule(model) for model in self.required_models for make_rule in implied)
        return (_UNDECODABLE, _SHORTER, _LONGER, *of_models, *self.rules)

    @property
    def columns(self) -> frozenset[str]:
        """Every column that a rule reads."""
        return frozenset().union(*(rule.columns for rule in self.effective))

    def with_rules(self, rules: Sequence[Rule], version: str) -> "Rules":
        """Return new rules for the same models.

        ``model_copy`` would keep the cached ``effective`` rules of this object.
        """
        return Rules(version=version, required_models=self.required_models, rules=tuple(rules), typical=self.typical)

    def evaluate(self, signals: Mapping[str, Scalar]) -> Verdict:
        """Evaluate the rules on one segment's signals, named as the columns of a shard.

        The verdict is the severest of the matching rules, ``accept`` if no rule matches.
        """
        matching = [rule for rule in self.effective if rule.matches(signals)]
        decisions: list[Decision] = ["accept", *(rule.verdict for rule in matching)]
        verdict = max(decisions, key=_SEVERITY.index)
        reasons = tuple(dict.fromkeys(rule.reason for rule in matching))
        return Verdict(verdict, reasons, self.version, self.margin(signals))

    def margin(self, signals: Mapping[str, Scalar]) -> float:
        """Measure how far a segment is from the boundary between accepting it and not.

        The margin is the robustness of the rules as a logical formula (Fainekos and Pappas 2009): the minimum distance
        of the conditions of each rule, then the maximum over all rules for the segment's language. The distance of a
        condition is positive if the condition holds. Its unit is the distance from the limit to the column's
        ``typical`` value, so a typical clean segment has the distance -1. For a column without a typical value, the
        unit is the absolute value of the limit. A unit of 0 is replaced by 1. A distance is cut at ``MAX_MARGIN``. A
        condition without a limit, or on a missing signal, has the distance ``MAX_MARGIN`` if it holds, else
        ``-MAX_MARGIN``.

        Returns:
            At least 0 for a segment that is not accepted, at most 0 for an accepted one; 0 lies on the boundary.
        """
        language = signals.get(LANGUAGE)
        return max(
            (
                min(self._distance(condition, signals, language) for condition in rule.when)
                for rule in self.effective
                if not rule.languages or language in rule.languages
            ),
            default=-MAX_MARGIN,
        )

    def unit_of(self, condition: Condition, limit: float) -> float:
        """Return the unit, above 0, in which ``margin`` measures the distance of a condition's signal from a limit."""
        return abs(self.typical.get(condition.column, 0.0) - limit) or 1.0

    def _distance(self, condition: Condition, signals: Mapping[str, Scalar], language: Scalar) -> float:
        """Return the distance of one condition, as ``margin`` defines it, within ``MAX_MARGIN`` of 0."""
        signal, limit = signals.get(condition.column), condition.limit_for(language)
        if not condition.is_ordered or not isinstance(signal, int | float) or not isinstance(limit, int | float):
            return MAX_MARGIN if condition.holds(signals) else -MAX_MARGIN
        above = (signal - limit) / self.unit_of(condition, limit)
        return min(max(above if condition.op[0] == ">" else -above, -MAX_MARGIN), MAX_MARGIN)


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
"""The tolerance is 0.5 s: records round to a tenth of a second, and encoders pad by up to 0.15 s."""
_LONGER = Rule(
    reason="length_differs",
    verdict="review",
    when=(Condition(column="length_difference_s", op=">", value=2.0),),
    sentence="The audio is longer than its record says: it may hold more than the segment.",
)
"""The tolerance is 2 s: clips are cut with up to a second of context on each side."""


def _unknown_language_rule(model: str) -> Rule:
    """Make the rule for segments that no model was asked about, because ISO 639 does not know their language."""
    sentence = "ISO 639 does not know the declared language, so no model was asked."
    return _not_asked_rule(model, "unknown_language", UNKNOWN_LANGUAGE, sentence)


def _unsupported_language_rule(model: str) -> Rule:
    """Make the rule for segments that no model was asked about, because no model knows their language."""
    sentence = "No model of the suite knows the declared language, so none was asked."
    return _not_asked_rule(model, "unsupported_language", UNSUPPORTED_LANGUAGE, sentence)


def _not_asked_rule(model: str, reason: str, fault: Fault, sentence: str) -> Rule:
    """Make the rule for decoded segments for which a model has this fault."""
    return Rule(
        reason=reason,
        verdict="review",
        when=(
            Condition(column="fault", op="missing"),
            Condition(column=f"{model}_fault", op="==", value=str(fault)),
        ),
        sentence=sentence,
    )


def _unscored_rule(model: str) -> Rule:
    """Make the rule that sends a decoded segment without an answer of a required model to review."""
    return Rule(
        reason=f"unscored:{model}",
        verdict="review",
        when=(
            Condition(column="fault", op="missing"),
            Condition(column=f"{model}_fault", op="present"),
            Condition(column=f"{model}_fault", op="!=", value=str(UNKNOWN_LANGUAGE)),
            Condition(column=f"{model}_fault", op="!=", value=str(UNSUPPORTED_LANGUAGE)),
        ),
        sentence=f"The model {model} gave no answer.",
    )

"""Limits of verdict rules for the user's own clips: as strict as an allowed loss of sound segments permits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

from validation.calibration.evaluate import EvaluatedClip
from validation.calibration.fault_injection import SOUND
from validation.calibration.metrics import Estimate, count_clips, estimate, list_faults
from validation.scoring.verdict import Condition, Decision, Rule, Rules

DIGITS = 4
"""Decimals of a proposed limit, which is rounded to the lenient side."""

FOLDS = 5
"""Number of parts in the cross-validation."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule's present and proposed limit, with the loss and the finds of each."""

    place: int
    """Index of the rule in the file."""
    rule: Rule
    condition: Condition
    limit: float
    loss_before: Estimate
    """Share of the sound variants for which the rule fires with the present limit."""
    loss: Estimate
    finds_before: int
    """Number of faulty variants for which the rule fires with the proposed limit."""
    finds: int


def propose_limits(evaluated: Sequence[EvaluatedClip], rules: Rules, *, max_loss: float) -> Iterator[Proposal]:
    """Propose a better limit for each rule that compares a measurement, if there is one.

    Only the first such comparison of a rule is changed. Its limit becomes the strictest one with which the rule fires
    for at most ``max_loss`` of the sound variants. There is no proposal for a rule whose loss is within ``max_loss``
    already and for which a stricter limit finds no further fault.

    Args:
        evaluated: sound and faulty variants, scored.
        rules: the present rules.
        max_loss: the share of sound variants for which one rule may fire. With fewer than 1 / max_loss variants the
            limit lies beyond all of them.
    """
    sound = [each for each in evaluated if each.clip.fault == SOUND]
    clips = count_clips(evaluated, SOUND)
    for place, rule in enumerate(rules.rules):
        condition = _find_condition(rule)
        if condition is None or (limit := _find_limit(sound, rule, condition, max_loss)) is None:
            continue
        proposed = replace_limit(rule, condition, limit)
        before, after = _count(sound, rule), _count(sound, proposed)
        finds_before, finds = (_count(evaluated, each) - _count(sound, each) for each in (rule, proposed))
        if before <= max_loss * len(sound) and finds <= finds_before:
            continue
        losses = [estimate(count / len(sound), clips) for count in (before, after)]
        yield Proposal(place, rule, condition, limit, losses[0], losses[1], finds_before, finds)


def apply_proposals(rules: Rules, proposals: Sequence[Proposal], version: str) -> Rules:
    """The rules with the proposed limits, under a new version; what is rejected would also be reviewed."""
    changed = list(rules.rules)
    for proposal in proposals:
        changed[proposal.place] = replace_limit(proposal.rule, proposal.condition, proposal.limit)
    changed = [_include_rejects(rule, changed) for rule in changed]
    return rules.with_rules(changed, version)


def _include_rejects(rule: Rule, rules: Sequence[Rule]) -> Rule:
    """A review rule of one condition, at least as strict as the reject rules of its reason on the same column."""
    condition, value = rule.when[0], rule.when[0].value
    if rule.verdict == "reject" or len(rule.when) != 1 or not isinstance(value, float):
        return rule
    limits = [
        each.value
        for other in rules
        if other.verdict == "reject" and other.reason == rule.reason
        for each in other.when
        if (each.column, each.op) == (condition.column, condition.op) and isinstance(each.value, float)
    ]
    strictest = max if condition.op[0] == "<" else min
    return replace_limit(rule, condition, strictest([value, *limits]))


def replace_limit(rule: Rule, condition: Condition, limit: float) -> Rule:
    """The rule with another limit in one of its conditions."""
    other = condition.model_copy(update={"value": limit})
    when = tuple(other if each is condition else each for each in rule.when)
    return rule.model_copy(update={"when": when})


def count_loss(evaluated: Sequence[EvaluatedClip], rules: Rules) -> tuple[Estimate, Estimate]:
    """The shares of the sound variants that the rules reject, and that they do not accept (reject or review)."""
    verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == SOUND]
    return _estimate_loss(verdicts, count_clips(evaluated, SOUND))


def validate_limits(evaluated: Sequence[EvaluatedClip], rules: Rules, *, max_loss: float) -> tuple[Estimate, Estimate]:
    """The loss that proposed limits would cause on unseen clips: shares rejected, and not accepted.

    Cross-validated by clip: each fifth of the clips gets the limits that the other four fifths propose. Limits lie at
    the edge of the clips that set them, so the loss on those clips alone would be too low.
    """
    clips = sorted({each.clip.original for each in evaluated})
    folds = [frozenset(clips[fold::FOLDS]) for fold in range(min(FOLDS, len(clips)))]
    verdicts: list[Decision] = []
    for held_out in folds:
        seen = [each for each in evaluated if each.clip.original not in held_out]
        proposals = list(propose_limits(seen, rules, max_loss=max_loss))
        proposed = apply_proposals(rules, proposals, rules.version)
        verdicts += [
            proposed.evaluate(each.signals).verdict
            for each in evaluated
            if each.clip.fault == SOUND and each.clip.original in held_out
        ]
    return _estimate_loss(verdicts, count_clips(evaluated, SOUND))


def _estimate_loss(verdicts: Sequence[Decision], clips: int) -> tuple[Estimate, Estimate]:
    rejected, accepted = verdicts.count("reject"), verdicts.count("accept")
    return estimate(rejected / len(verdicts), clips), estimate((len(verdicts) - accepted) / len(verdicts), clips)


def found_by_fault(evaluated: Sequence[EvaluatedClip], rules: Rules) -> dict[str, float]:
    """Fault -> share of its variants that the rules do not accept."""
    shares = {}
    for fault in list_faults(evaluated):
        verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == fault]
        shares[fault] = (len(verdicts) - verdicts.count("accept")) / len(verdicts)
    return shares


def _find_condition(rule: Rule) -> Condition | None:
    """The first comparison with a float. Limits of counts are not changed."""
    return next(
        (each for each in rule.when if each.op in {"<", "<=", ">", ">="} and isinstance(each.value, float)), None
    )


def _find_limit(sound: Sequence[EvaluatedClip], rule: Rule, condition: Condition, max_loss: float) -> float | None:
    """The strictest limit; None if no more sound variants meet the other conditions than the loss allows."""
    others = [each for each in rule.when if each is not condition]
    values = [
        float(value)
        for each in sound
        if all(other.holds(each.signals) for other in others)
        and isinstance(value := each.signals.get(condition.column), int | float)
    ]
    allowed = floor(max_loss * len(sound))
    if len(values) <= allowed:
        return None
    is_low = condition.op[0] == "<"
    limit = sorted(values, reverse=not is_low)[allowed]
    shift = 0.1**DIGITS if condition.op.endswith("=") else 0.0  # the variant at the limit itself must pass
    scaled = (limit - shift if is_low else limit + shift) * 10.0**DIGITS
    return float(floor(scaled) if is_low else ceil(scaled)) / 10.0**DIGITS


def _count(evaluated: Sequence[EvaluatedClip], rule: Rule) -> int:
    return sum(rule.matches(each.signals) for each in evaluated)

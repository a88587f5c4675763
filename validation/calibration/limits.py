"""Propose limits for verdict rules from trusted clips: the strictest limit with an allowed loss of sound segments."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

from validation.calibration.fault_injection import SOUND
from validation.calibration.metrics import Estimate, EvaluatedClip, count_clips, estimate, list_faults
from validation.scoring.verdict import Condition, Decision, Rule, Rules

DIGITS = 4
"""Number of decimals of a proposed limit. The limit is rounded so that the rule does not fire more often."""

FOLDS = 5
"""Number of parts in the cross-validation."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The present and the proposed limit of a rule, each with its loss and the number of faults that it finds."""

    place: int
    """Index of the rule in the file."""
    rule: Rule
    condition: Condition
    """The condition of ``rule`` that gets the proposed limit."""
    limit: float
    """The proposed limit."""
    loss_before: Estimate
    """Share of the sound variants for which the rule fires with the present limit."""
    loss: Estimate
    """Share of the sound variants for which the rule fires with the proposed limit."""
    finds_before: int
    """Number of faulty variants for which the rule fires with the present limit."""
    finds: int
    """Number of faulty variants for which the rule fires with the proposed limit."""


def propose_limits(evaluated: Sequence[EvaluatedClip], rules: Rules, *, max_loss: float) -> Iterator[Proposal]:
    """Propose a better limit for each rule that compares a signal with a float, if a better limit exists.

    Only the first such comparison of a rule is changed. The proposed limit is the strictest limit with which the rule
    fires for at most ``max_loss`` of the sound variants. A rule has no proposal if its loss is at most ``max_loss``
    already and the new limit finds no more faulty variants, or if every limit would be allowed (``_find_limit``).

    Args:
        evaluated: scored variants, sound and faulty.
        rules: the present rules.
        max_loss: the share of sound variants for which one rule may fire. With fewer than 1 / max_loss sound variants,
            the rule fires for none of them.
    """
    sound = [each for each in evaluated if each.clip.fault == SOUND]
    clips = count_clips(evaluated, SOUND)
    for place, rule in enumerate(rules.rules):
        condition = _find_condition(rule)
        if condition is None or (limit := _find_limit(sound, rule, condition, max_loss)) is None:
            continue
        proposed = replace_limit(rule, condition, limit)
        before, after = _count_fired(sound, rule), _count_fired(sound, proposed)
        finds_before, finds = (_count_fired(evaluated, each) - _count_fired(sound, each) for each in (rule, proposed))
        if before <= max_loss * len(sound) and finds <= finds_before:
            continue
        losses = [estimate(count / len(sound), clips) for count in (before, after)]
        yield Proposal(place, rule, condition, limit, losses[0], losses[1], finds_before, finds)


def apply_proposals(rules: Rules, proposals: Sequence[Proposal], version: str) -> Rules:
    """Return the rules with the proposed limits, under a new version.

    Some review rules are then tightened to include the segments that reject rules find (``_include_rejects``).
    """
    changed = list(rules.rules)
    for proposal in proposals:
        changed[proposal.place] = replace_limit(proposal.rule, proposal.condition, proposal.limit)
    changed = [_include_rejects(rule, changed) for rule in changed]
    return rules.with_rules(changed, version)


def _include_rejects(rule: Rule, rules: Sequence[Rule]) -> Rule:
    """Tighten a review rule of one condition so that it fires wherever a reject rule of its reason does.

    Only reject rules that compare the same column by the same operator with a float are considered.
    """
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
    """Return the rule with another limit in ``condition``, which is one of its conditions."""
    other = condition.model_copy(update={"value": limit})
    when = tuple(other if each is condition else each for each in rule.when)
    return rule.model_copy(update={"when": when})


def measure_false_alarms(evaluated: Sequence[EvaluatedClip], rules: Rules) -> tuple[Estimate, Estimate]:
    """Return the shares of the sound variants that the rules reject, and that they do not accept (reject or review).

    Both are false alarms, because a sound variant has no fault.
    """
    verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == SOUND]
    return _estimate_false_alarms(verdicts, count_clips(evaluated, SOUND))


def cross_validate_false_alarms(
    evaluated: Sequence[EvaluatedClip], rules: Rules, *, max_loss: float
) -> tuple[Estimate, Estimate]:
    """Estimate the false alarms of proposed limits on sound variants of unseen clips.

    The estimate is cross-validated by clip with ``FOLDS`` folds, or one fold per clip if there are fewer clips. Limits
    are proposed from the clips outside a fold and applied to the clips of the fold. On the clips from which limits
    were proposed, the share of false alarms would be too low.

    Returns:
        The share of the sound variants that is rejected, and the share that is not accepted.
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
    return _estimate_false_alarms(verdicts, count_clips(evaluated, SOUND))


def _estimate_false_alarms(verdicts: Sequence[Decision], clips: int) -> tuple[Estimate, Estimate]:
    """Return the share of rejected and the share of not accepted verdicts. ``clips`` is the sample size."""
    rejected, accepted = verdicts.count("reject"), verdicts.count("accept")
    return estimate(rejected / len(verdicts), clips), estimate((len(verdicts) - accepted) / len(verdicts), clips)


def detection_rate_by_fault(evaluated: Sequence[EvaluatedClip], rules: Rules) -> dict[str, float]:
    """Return, by fault, the share of the variants with the fault that the rules reject or send to review."""
    shares = {}
    for fault in list_faults(evaluated):
        verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == fault]
        shares[fault] = (len(verdicts) - verdicts.count("accept")) / len(verdicts)
    return shares


def count_adjustable(rules: Rules) -> int:
    """Return the number of rules whose limit ``propose_limits`` tries to improve."""
    return sum(_find_condition(rule) is not None for rule in rules.rules)


def _find_condition(rule: Rule) -> Condition | None:
    """Return the first comparison of a rule with a float; None if there is none. Integer limits are not changed."""
    return next(
        (each for each in rule.when if each.op in {"<", "<=", ">", ">="} and isinstance(each.value, float)), None
    )


def _find_limit(sound: Sequence[EvaluatedClip], rule: Rule, condition: Condition, max_loss: float) -> float | None:
    """Return the strictest limit with which a rule fires for at most ``max_loss`` of the sound variants.

    Return None if the signal is known, and the rule's other conditions hold, for so few sound variants that every limit
    is allowed.
    """
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
    shift = 0.1**DIGITS if condition.op.endswith("=") else 0.0  # the rule must not fire for a variant at the limit
    scaled = (limit - shift if is_low else limit + shift) * 10.0**DIGITS
    return float(floor(scaled) if is_low else ceil(scaled)) / 10.0**DIGITS


def _count_fired(evaluated: Sequence[EvaluatedClip], rule: Rule) -> int:
    """Count the variants for which the rule fires."""
    return sum(rule.matches(each.signals) for each in evaluated)

"""Limits for the user's own material: as strict as a bearable loss of sound segments allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor

from validation.calibration.evaluate import EvaluatedClip
from validation.calibration.fault_injection import SOUND
from validation.calibration.metrics import Estimate, count_clips, estimate, name_faults
from validation.scoring.verdict import Condition, Decision, Rule, Rules

DIGITS = 4
"""Decimals of a proposed limit, rounded to the side where it costs less."""

FOLDS = 5
"""Parts of the clips, each of which is judged by limits that the others set."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule's limit as it is and as it is proposed, with what each costs and finds among the specimens."""

    place: int
    """Which rule of the file."""
    rule: Rule
    condition: Condition
    limit: float
    loss_before: Estimate
    """Share of the sound specimens for which the rule fires."""
    loss: Estimate
    finds_before: int
    """How many faulty specimens the rule fires for."""
    finds: int


def propose_limits(heard: Sequence[EvaluatedClip], rules: Rules, *, bearable: float) -> Iterator[Proposal]:
    """Propose a limit for each rule that compares a measurement, where another one is better.

    The first such comparison of a rule is its measure; its other conditions stay as they are. Its limit becomes the
    strictest for which the rule fires for at most ``bearable`` of the sound specimens. A limit stays that costs no
    more than is bearable already and where a stricter one would find no further fault.

    Args:
        heard: sound and faulty specimens.
        rules: what to start from.
        bearable: the share of sound specimens that one rule may cost. What fewer than 1 / bearable specimens can
            tell is only that the limit lies beyond all of them.
    """
    sound = [each for each in heard if each.specimen.fault == SOUND]
    clips = count_clips(heard, SOUND)
    for place, rule in enumerate(rules.rules):
        condition = _find_measure(rule)
        if condition is None or (limit := _find_limit(sound, rule, condition, bearable)) is None:
            continue
        proposed = replace_limit(rule, condition, limit)
        before, after = _count(sound, rule), _count(sound, proposed)
        finds_before, finds = (_count(heard, each) - _count(sound, each) for each in (rule, proposed))
        if before <= bearable * len(sound) and finds <= finds_before:
            continue
        losses = [estimate(count / len(sound), clips) for count in (before, after)]
        yield Proposal(place, rule, condition, limit, losses[0], losses[1], finds_before, finds)


def apply_proposals(rules: Rules, proposals: Sequence[Proposal], version: str) -> Rules:
    """Make the rules with the proposed limits, under a version of their own."""
    book = list(rules.rules)
    for proposal in proposals:
        book[proposal.place] = replace_limit(proposal.rule, proposal.condition, proposal.limit)
    return Rules(version=version, required_models=rules.required_models, rules=tuple(book))


def replace_limit(rule: Rule, condition: Condition, limit: float) -> Rule:
    """The same rule with another limit in one of its conditions."""
    other = Condition(column=condition.column, op=condition.op, value=limit)
    when = tuple(other if each is condition else each for each in rule.when)
    return Rule(reason=rule.reason, verdict=rule.verdict, when=when, sentence=rule.sentence)


def count_loss(heard: Sequence[EvaluatedClip], rules: Rules) -> tuple[Estimate, Estimate]:
    """The shares of the sound specimens that the rules reject, and that they do not accept."""
    verdicts = [rules.evaluate(each.signals).verdict for each in heard if each.specimen.fault == SOUND]
    return _estimate_loss(verdicts, count_clips(heard, SOUND))


def validate_limits(heard: Sequence[EvaluatedClip], rules: Rules, *, bearable: float) -> tuple[Estimate, Estimate]:
    """The shares that proposed limits would cost of clips that had no part in them.

    Cross-validated by clip: those of each fifth are judged by limits that the others propose. Limits are set at the
    edge of the clips that they have seen, so what they cost of these alone is told too low.
    """
    clips = sorted({each.specimen.clip for each in heard})
    folds = [frozenset(clips[fold::FOLDS]) for fold in range(min(FOLDS, len(clips)))]
    verdicts: list[Decision] = []
    for held_out in folds:
        seen = [each for each in heard if each.specimen.clip not in held_out]
        proposals = list(propose_limits(seen, rules, bearable=bearable))
        book = apply_proposals(rules, proposals, rules.version)
        verdicts += [
            book.evaluate(each.signals).verdict
            for each in heard
            if each.specimen.fault == SOUND and each.specimen.clip in held_out
        ]
    return _estimate_loss(verdicts, count_clips(heard, SOUND))


def _estimate_loss(verdicts: Sequence[Decision], clips: int) -> tuple[Estimate, Estimate]:
    rejected, accepted = verdicts.count("reject"), verdicts.count("accept")
    return estimate(rejected / len(verdicts), clips), estimate((len(verdicts) - accepted) / len(verdicts), clips)


def found_by_fault(heard: Sequence[EvaluatedClip], rules: Rules) -> dict[str, float]:
    """The share of each fault's specimens that the rules do not accept."""
    shares = {}
    for fault in name_faults(heard):
        verdicts = [rules.evaluate(each.signals).verdict for each in heard if each.specimen.fault == fault]
        shares[fault] = (len(verdicts) - verdicts.count("accept")) / len(verdicts)
    return shares


def _find_measure(rule: Rule) -> Condition | None:
    """The first comparison with a measurement: a float. Counts have no limit to move."""
    return next(
        (each for each in rule.when if each.op in {"<", "<=", ">", ">="} and isinstance(each.value, float)), None
    )


def _find_limit(sound: Sequence[EvaluatedClip], rule: Rule, condition: Condition, bearable: float) -> float | None:
    """The strictest limit; None where too few sound specimens meet the rule's other conditions to tell."""
    others = [each for each in rule.when if each is not condition]
    values = [
        float(value)
        for each in sound
        if all(other.holds(each.signals) for other in others)
        and isinstance(value := each.signals.get(condition.column), int | float)
    ]
    spared = floor(bearable * len(sound))
    if len(values) <= spared:
        return None
    is_low = condition.op[0] == "<"
    limit = sorted(values, reverse=not is_low)[spared]
    shift = 0.1**DIGITS if condition.op.endswith("=") else 0.0  # the specimen at the limit itself is spared
    scaled = (limit - shift if is_low else limit + shift) * 10.0**DIGITS
    return float(floor(scaled) if is_low else ceil(scaled)) / 10.0**DIGITS


def _count(heard: Sequence[EvaluatedClip], rule: Rule) -> int:
    return sum(rule.matches(each.signals) for each in heard)

"""Propose limits for verdict rules.

``propose_limits`` uses trusted clips. It proposes the strictest limit with an allowed loss of sound segments.
``propose_language_limits`` uses committed shards. Its limits are quantiles of the segments of each language.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import polars as pl

from validation.calibration.fault_injection import SOUND
from validation.calibration.metrics import Estimate, EvaluatedClip, count_clips, estimate, list_faults
from validation.scoring.features import compare_romanised, romanise
from validation.scoring.verdict import LANGUAGE, Condition, Decision, Rule, Rules

DIGITS = 4
"""Number of decimals of a proposed limit. The limit is rounded so that the rule fires less often."""

FOLDS = 5
"""Number of parts in the cross-validation."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """The present and the proposed limit of a rule, each with its loss and the number of faults that it finds."""

    place: int
    """Index of the rule in the file."""
    rule: Rule
    condition: Condition
    limit: float
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
    already and the new limit finds no more faulty variants.

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

    Review rules are tightened so that they fire for every segment that a reject rule of the same reason finds.
    """
    changed = list(rules.rules)
    for proposal in proposals:
        changed[proposal.place] = replace_limit(proposal.rule, proposal.condition, proposal.limit)
    changed = [_include_rejects(rule, changed) for rule in changed]
    return rules.with_rules(changed, version)


def _include_rejects(rule: Rule, rules: Sequence[Rule]) -> Rule:
    """Tighten a review rule of one condition so that it fires wherever a reject rule of its reason does.

    Only reject rules that compare the same column in the same direction are considered.
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


def measure_loss(evaluated: Sequence[EvaluatedClip], rules: Rules) -> tuple[Estimate, Estimate]:
    """Return two shares of the sound variants: those that the rules reject, and those that they do not accept."""
    verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == SOUND]
    return _estimate_loss(verdicts, count_clips(evaluated, SOUND))


def cross_validate_loss(
    evaluated: Sequence[EvaluatedClip], rules: Rules, *, max_loss: float
) -> tuple[Estimate, Estimate]:
    """Estimate the loss of proposed limits on sound variants of unseen clips.

    The estimate is cross-validated by clip with ``FOLDS`` folds. Limits are proposed from four fifths of the clips and
    applied to the other fifth. The loss on the clips from which limits were proposed would be too low.

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
    return _estimate_loss(verdicts, count_clips(evaluated, SOUND))


def _estimate_loss(verdicts: Sequence[Decision], clips: int) -> tuple[Estimate, Estimate]:
    rejected, accepted = verdicts.count("reject"), verdicts.count("accept")
    return estimate(rejected / len(verdicts), clips), estimate((len(verdicts) - accepted) / len(verdicts), clips)


def detection_rate_by_fault(evaluated: Sequence[EvaluatedClip], rules: Rules) -> dict[str, float]:
    """Return the share of the variants that the rules reject or send to review, by fault."""
    shares = {}
    for fault in list_faults(evaluated):
        verdicts = [rules.evaluate(each.signals).verdict for each in evaluated if each.clip.fault == fault]
        shares[fault] = (len(verdicts) - verdicts.count("accept")) / len(verdicts)
    return shares


def _find_condition(rule: Rule) -> Condition | None:
    """Return the first comparison of a rule with a float; None if there is none. Integer limits are not changed."""
    return next(
        (each for each in rule.when if each.op in {"<", "<=", ">", ">="} and isinstance(each.value, float)), None
    )


def _find_limit(sound: Sequence[EvaluatedClip], rule: Rule, condition: Condition, max_loss: float) -> float | None:
    """Return the strictest limit with which a rule fires for at most ``max_loss`` of the sound variants.

    Return None if the other conditions of the rule hold for so few sound variants that every limit is allowed.
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


MIN_SEGMENTS = 200
"""Minimum number of segments of a language for a limit of its own. 2 % of 200 segments are four segments."""
MAX_SWAPPED = 5000
"""Maximum number of segments per language whose transcripts are swapped. It makes the standard error of a share less
than 0.01."""
BY_LANGUAGE = ("_align_tok", "_align_min", "_align_stretch", "_greedy_lp", "_greedy_tok", "roman_cer", "chars_per_s")
"""Suffixes of the columns whose distribution depends on the language. Other limits are common to all languages."""


@dataclass(frozen=True, slots=True)
class LanguageLimit:
    """The proposed limit of one language for a condition of a rule."""

    place: int
    """Index of the rule in the file."""
    condition: Condition
    language: str
    limit: float
    segments: int
    found_swapped: float | None
    """Share of swapped transcripts that the limit finds. The share is computed only for ``roman_cer``. For other
    columns it is None, because the models would have to score the swapped transcripts."""


def propose_language_limits(
    segments: pl.DataFrame | pl.LazyFrame, rules: Rules, *, share: float, min_segments: int = MIN_SEGMENTS
) -> Iterator[LanguageLimit]:
    """Propose a limit per language for each review rule with one condition on a column of ``BY_LANGUAGE``.

    The limit is a quantile of the language's own segments, as in the filter of the OWSM v4 corpus. So a language on
    which the recogniser is weak does not get the limit of a language on which it is strong. A review limit is at least
    as strict as the reject limit of the same column and reason. Languages with fewer than ``min_segments`` segments
    have no proposal and keep the common limit.

    Args:
        segments: decoded segments with the columns of a shard. Only two or three columns are read at a time.
        rules: the present rules.
        share: the share of each language's segments that one rule may send to review.
        min_segments: the minimum number of segments of a language.
    """
    rows = segments.lazy()
    names = rows.collect_schema().names()
    for place, rule in enumerate(rules.rules):
        if rule.verdict == "reject" or len(rule.when) != 1 or not _depends_on_language(rule.when[0], names):
            continue
        (condition,) = rule.when
        value, quantile = pl.col(condition.column), share if condition.op[0] == "<" else 1 - share
        known = rows.filter(value.is_not_null(), pl.col(LANGUAGE).is_not_null())
        by_language = known.group_by(LANGUAGE).agg(pl.len(), value.quantile(quantile, "linear"))
        for language, count, found in by_language.sort(LANGUAGE).collect(engine="streaming").iter_rows():
            if count < min_segments:
                continue
            limit = _keep_reject_within(float(found), rule, condition, rules, language)
            own = known.filter(pl.col(LANGUAGE) == language)
            swapped = _found_swapped(own, names, language, limit) if condition.column == "roman_cer" else None
            yield LanguageLimit(place, condition, language, round(limit, 3), count, swapped)


def apply_language_limits(rules: Rules, limits: Sequence[LanguageLimit], version: str) -> Rules:
    """Return the rules with the limits by language added, under a new version."""
    changed = list(rules.rules)
    for place in dict.fromkeys(each.place for each in limits):
        rule, own = changed[place], {each.language: each.limit for each in limits if each.place == place}
        changed[place] = rule.model_copy(update={"when": (_with_limits(rule.when[0], own),)})
    return rules.with_rules(changed, version)


def _with_limits(condition: Condition, limits: Mapping[str, float]) -> Condition:
    return Condition(
        column=condition.column,
        op=condition.op,
        value=condition.value,
        by_language=tuple(sorted((dict(condition.by_language) | dict(limits)).items())),
    )


def _depends_on_language(condition: Condition, names: Collection[str]) -> bool:
    column = condition.column
    return condition.is_ordered and column in names and column.endswith(BY_LANGUAGE)


def _keep_reject_within(limit: float, rule: Rule, condition: Condition, rules: Rules, language: str) -> float:
    """Tighten a review limit so that it includes every segment that a reject rule of the same reason finds."""
    rejecting = [
        float(other.limit_for(language) or 0)
        for each in rules.rules
        if each.verdict == "reject" and each.reason == rule.reason
        for other in each.when
        if other.column == condition.column and other.op == condition.op
    ]
    return max([limit, *rejecting]) if condition.op[0] == "<" else min([limit, *rejecting])


def _found_swapped(own: pl.LazyFrame, names: Sequence[str], language: str, limit: float) -> float:
    """Return the share of wrong transcripts whose romanised character error rate is at least ``limit``.

    The recognised text of each segment is compared with the stored transcript of the next segment. Only the first
    ``MAX_SWAPPED`` segments are used.
    """
    heard_column = next(name for name in names if name.endswith("_text") and name != "language_text")
    texts = own.select("text", heard_column).head(MAX_SWAPPED).collect(engine="streaming")
    stored, heard = (texts[name].to_list() for name in ("text", heard_column))
    pairs = zip([*stored[1:], stored[0]], heard, strict=True)
    rates = [
        agreement.cer
        for text, recognised in pairs
        if recognised is not None
        and (agreement := compare_romanised(romanise(text, language), romanise(recognised, language))) is not None
    ]
    return sum(rate >= limit for rate in rates) / len(rates) if rates else 0.0

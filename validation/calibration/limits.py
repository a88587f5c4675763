"""Proposals for the limits of verdict rules.

From the user's own clips: as strict as an allowed loss of sound segments permits. From committed shards: by language,
as quantiles of a language's own segments.
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


MIN_SEGMENTS = 200
"""Segments of a language without which it keeps the common limit: a quantile of 2 % is then four segments."""
MAX_SWAPPED = 5000
"""Segments of a language whose transcripts are swapped: the standard error of a share is then below 0.01."""
BY_LANGUAGE = ("_align_tok", "_align_min", "_align_stretch", "_greedy_lp", "_greedy_tok", "roman_cer", "chars_per_s")
"""Endings of the columns whose distribution depends on the language. Limits of the audio hold for all."""


@dataclass(frozen=True, slots=True)
class LanguageLimit:
    """A limit of one language for a condition of a rule."""

    place: int
    """Index of the rule in the file."""
    condition: Condition
    language: str
    limit: float
    segments: int
    found_swapped: float | None
    """Share of other segments' transcripts that the limit finds; None for columns that need the models to know it."""


def propose_language_limits(
    segments: pl.DataFrame | pl.LazyFrame, rules: Rules, *, share: float, min_segments: int = MIN_SEGMENTS
) -> Iterator[LanguageLimit]:
    """Propose the limit beyond which a share of each language's segments lies, for each rule of one such condition.

    The share is a quantile of the language's own segments, as OWSM v4 filters its corpus: a language that the
    recogniser knows badly is not judged by the limit of one that it knows well. A review limit is never laxer than the
    reject limit of the same column and reason, so what is rejected would also have been reviewed. Languages of fewer
    than ``min_segments`` have no proposal and keep the common limit.

    Args:
        segments: decoded segments with the columns of a shard; two columns at a time are read.
        rules: the present rules.
        share: of each language's segments that one rule may send to review.
        min_segments: see above.
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
    """The rules with the limits by language added, under a new version."""
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
    """Move a review limit so far that it includes everything that a reject rule of the same reason finds."""
    rejecting = [
        float(other.limit_for(language) or 0)
        for each in rules.rules
        if each.verdict == "reject" and each.reason == rule.reason
        for other in each.when
        if other.column == condition.column and other.op == condition.op
    ]
    return max([limit, *rejecting]) if condition.op[0] == "<" else min([limit, *rejecting])


def _found_swapped(own: pl.LazyFrame, names: Sequence[str], language: str, limit: float) -> float:
    """Plant the transcript of each segment in the next one: the share with a romanised error rate beyond a limit.

    Measured on the first ``MAX_SWAPPED`` segments.
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

"""The metrics of signals and rules, and the limits that are proposed from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.calibration.fault_injection import SOUND, ClipVariant
from validation.calibration.limits import (
    apply_proposals,
    cross_validate_false_alarms,
    measure_false_alarms,
    propose_limits,
)
from validation.calibration.metrics import (
    EvaluatedClip,
    estimate,
    list_indicators,
    measure_auc,
    measure_indicators,
    measure_recall,
    measure_verdicts,
)
from validation.scoring.verdict import Condition, Rule, Rules

SCORES = st.lists(st.integers(-3, 3).map(float) | st.just(-np.inf), min_size=1, max_size=12).map(np.array)


@given(SCORES, SCORES)
def test_auc_is_the_probability_of_a_higher_score(sound, faulty):
    """Over all pairs of a sound and a faulty variant; a tie counts half."""
    pairs = [(f > s) + (f == s) / 2 for f in faulty for s in sound]
    assert measure_auc(sound, faulty) == pytest.approx(np.mean(pairs))


@given(st.lists(st.floats(-5, 5), min_size=100, max_size=300).map(np.array), SCORES)
def test_recall_keeps_the_false_positive_rate(sound, faulty):
    """The limit is the lowest that at most one sound variant in a hundred exceeds."""
    limits = [limit for limit in sound if (sound > limit).sum() <= 0.01 * len(sound)]
    assert measure_recall(sound, faulty) == pytest.approx((faulty > min(limits)).mean())


def test_confidence_bounds_count_clips():
    """No find in 23 clips may be one in seven; a half of 100 lies between 40 and 60 percent."""
    assert estimate(0.0, 23).high == pytest.approx(0.143, abs=0.001)
    assert (estimate(0.5, 100).low, estimate(0.5, 100).high) == pytest.approx((0.404, 0.596), abs=0.001)


def evaluate(fault: str, clip: str, **signals) -> EvaluatedClip:
    """A variant of a clip with these signals."""
    return EvaluatedClip(
        ClipVariant(clip, fault, fault, np.zeros(1, np.float32), "", "hi", "hi"), {"fault": None} | signals
    )


def rule(*when: Condition, verdict="reject") -> Rule:
    """A rule with these conditions."""
    return Rule(reason="noisy", verdict=verdict, sentence="x", when=when)


BAD = Condition(column="p", op="<", value=0.2)
LOUD = Condition(column="n", op=">=", value=1)
RULES = Rules(version="b", required_models=(), rules=(rule(BAD), rule(LOUD, BAD, verdict="review")))


def test_indicators_are_the_columns_that_rules_compare():
    """Each column once, with the direction in which its rule fires."""
    assert [str(indicator) for indicator in list_indicators(RULES)] == ["p low", "n high"]
    assert [str(indicator) for indicator in list_indicators(RULES, ["p", "ear_align_min", "ear_text"])][2:] == [
        "ear_align_min low"
    ]


def test_missing_value_is_no_alarm():
    """A signal that is null on faulty variants finds nothing."""
    variants = [evaluate(SOUND, str(n), p=0.5, n=0) for n in range(4)] + [
        evaluate("hiss", str(n), p=None, n=3) for n in range(4)
    ]
    found = {str(report.indicator): report for report in measure_indicators(variants, RULES)}
    assert (found["p low"].auc.value, found["p low"].recall.value) == (0.0, 0.0)
    assert (found["n high"].auc.value, found["n high"].recall.value) == (1.0, 1.0)


def test_verdicts_are_counted_by_fault():
    """The sound variants come first; "not accepted" is reject or review."""
    variants = [evaluate(SOUND, "a", p=0.5, n=0), evaluate("hiss", "a", p=0.1, n=0), evaluate("hiss", "b", p=0.5, n=0)]
    sound, hiss = measure_verdicts(variants, RULES)
    assert (sound.fault, sound.rejected.value, hiss.rejected.value, hiss.not_accepted.value) == (SOUND, 0.0, 0.5, 0.5)


SHARES = st.lists(st.floats(0, 1), min_size=5, max_size=60)


@given(SHARES, SHARES, st.sampled_from([0.01, 0.1, 0.3]), st.sampled_from(["<", "<=", ">", ">="]))
def test_proposed_limit_keeps_the_allowed_loss(sound, faulty, max_loss, op):
    """A proposal finds more than the present limit, or the present limit lost too much."""
    rules = Rules(version="b", required_models=(), rules=(rule(Condition(column="p", op=op, value=0.5)),))
    variants = [evaluate(SOUND, str(n), p=p) for n, p in enumerate(sound)] + [
        evaluate("hiss", str(n), p=p) for n, p in enumerate(faulty)
    ]
    for proposal in propose_limits(variants, rules, max_loss=max_loss):
        assert proposal.loss.value <= max_loss
        assert proposal.finds > proposal.finds_before or proposal.loss_before.value > max_loss
        rejected, not_accepted = measure_false_alarms(variants, apply_proposals(rules, [proposal], "c"))
        assert rejected == not_accepted == proposal.loss


def test_expected_loss_is_measured_on_unseen_clips():
    """A limit at the edge of the clips loses none of them, but the limits of the other clips would lose the
    outermost."""
    variants = [evaluate(SOUND, f"{n:02d}", p=0.6 + n / 100, n=0) for n in range(10)] + [
        evaluate("hiss", f"{n:02d}", p=0.58, n=0) for n in range(10)
    ]
    proposed = apply_proposals(RULES, list(propose_limits(variants, RULES, max_loss=0.01)), "c")
    assert measure_false_alarms(variants, proposed)[0].value == 0.0
    assert cross_validate_false_alarms(variants, RULES, max_loss=0.01)[0].value == pytest.approx(0.1)


def test_limit_stays_if_no_further_fault_is_found():
    """If no sound variant is lost and every fault is found, no limit is proposed."""
    variants = [evaluate(SOUND, str(n), p=0.9) for n in range(9)] + [evaluate("hiss", str(n), p=0.1) for n in range(9)]
    assert list(propose_limits(variants, RULES, max_loss=0.01)) == []


def test_limit_stays_without_sound_variants_to_measure():
    """If no sound variant meets the other conditions of the rule, its loss cannot be measured."""
    rules = Rules(version="b", required_models=(), rules=(rule(LOUD, BAD),))
    variants = [evaluate(SOUND, str(n), p=0.9, n=0) for n in range(9)] + [
        evaluate("hiss", str(n), p=0.3, n=1) for n in range(9)
    ]
    assert list(propose_limits(variants, rules, max_loss=0.01)) == []


def test_limit_moves_to_the_last_allowed_sound_variant():
    """The limit becomes as strict as possible without a loss; other conditions stay."""
    variants = [evaluate(SOUND, str(n), p=0.6 + n / 100, n=0) for n in range(9)] + [
        evaluate("hiss", str(n), p=0.5, n=0) for n in range(9)
    ]
    (proposal,) = propose_limits(variants, RULES, max_loss=0.01)
    assert (proposal.limit, proposal.finds_before, proposal.finds, proposal.loss.value) == (0.6, 0, 9, 0.0)
    assert apply_proposals(RULES, [proposal], "c").rules[1] == RULES.rules[1]

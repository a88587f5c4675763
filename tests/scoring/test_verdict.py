"""The laws of verdicts, whatever the rules say."""

import operator

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.verdict import Condition, Rule, Rules

NUMBERS, TEXTS, FLAGS = ["n0", "n1", "length_difference_s"], ["s0", "s1"], ["b0"]
FAULTS = ["fault", "m_fault"]
VALUES = {
    **dict.fromkeys(NUMBERS, st.sampled_from([-1.5, 0.0, 0.5, 2.0]) | st.integers(-2, 2)),
    **dict.fromkeys(TEXTS, st.sampled_from(["", "a", "hi"])),
    **dict.fromkeys(FLAGS, st.booleans()),
    **dict.fromkeys(FAULTS, st.sampled_from(["too_short: 0.1 s", "model_failed: boom"])),
}
ROWS = st.fixed_dictionaries({column: st.none() | values for column, values in VALUES.items()})


@st.composite
def conditions(draw):
    """Any condition that a rules file may hold on these columns."""
    column = draw(st.sampled_from(sorted(VALUES)))
    ordered = ["<", "<=", ">", ">="] if column in NUMBERS else []
    op = draw(st.sampled_from([*ordered, "==", "!=", "missing", "present"]))
    return Condition(column=column, op=op, value=None if op in {"missing", "present"} else draw(VALUES[column]))


RULE = st.builds(
    Rule,
    reason=st.sampled_from(["noisy", "clipped", "wrong_language"]),
    verdict=st.sampled_from(["review", "reject"]),
    when=st.lists(conditions(), min_size=1, max_size=3).map(tuple),
    sentence=st.just("It sounds odd."),
)
RULES = st.builds(
    Rules,
    version=st.just("test-1"),
    required_models=st.sampled_from([(), ("m",)]),
    rules=st.lists(RULE, max_size=5).map(tuple),
)
SEVERITY = {"accept": 0, "review": 1, "reject": 2}


@given(RULES, ROWS)
def test_accept_means_that_nothing_speaks_against_it(rules, row):
    """A segment is accepted exactly when no rule gives a reason; each reason is given once."""
    verdict = rules.judge(row)
    assert (verdict.verdict == "accept") == (verdict.reasons == ())
    assert len(set(verdict.reasons)) == len(verdict.reasons)
    assert verdict.rules_version == "test-1"


@given(RULES, RULE, ROWS)
def test_another_rule_never_makes_a_verdict_milder(rules, rule, row):
    """Rules only add doubt, so they may be read one at a time."""
    before = rules.judge(row)
    after = rules.model_copy(update={"rules": (*rules.rules, rule)}).judge(row)
    assert SEVERITY[after.verdict] >= SEVERITY[before.verdict]
    assert after.reasons[: len(before.reasons)] == before.reasons


@given(RULES, ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rules_orders_reasons_and_changes_no_verdict(rules, row, random):
    """No rule hides another."""
    shuffled = rules.model_copy(update={"rules": tuple(random.sample(rules.rules, len(rules.rules)))})
    assert shuffled.judge(row).verdict == rules.judge(row).verdict
    assert set(shuffled.judge(row).reasons) == set(rules.judge(row).reasons)


@given(conditions())
def test_a_comparison_with_nothing_never_holds(condition):
    """What is not known is no evidence, whether the column is null or not there at all; only `missing` asks."""
    assert condition.holds({}) == condition.holds({condition.column: None}) == (condition.op == "missing")


@given(RULES, ROWS)
def test_what_cannot_be_heard_is_rejected_under_any_rules(rules, row):
    """No rules file can accept audio that could not be decoded, nor blames a model for it."""
    verdict = rules.judge(row | {"fault": "undecodable: no such codec", "m_fault": "undecodable: no such codec"})
    assert verdict.verdict == "reject"
    assert verdict.reasons[0] == "undecodable"
    assert "unscored:m" not in verdict.reasons


@given(RULES, ROWS)
def test_a_required_model_that_gave_no_answer_leaves_a_doubt(rules, row):
    """A failed model is never a good score: at least review, and the reason names the model."""
    verdict = rules.judge(row | {"fault": None, "m_fault": "model_failed: boom"})
    required = "m" in rules.required_models
    assert ("unscored:m" in verdict.reasons) == required
    assert not required or verdict.verdict != "accept"


@given(RULES, st.lists(ROWS, max_size=8))
def test_another_engine_reads_the_rules_the_same_way(rules, rows):
    """Every condition is one comparison of one column: polars, over a whole frame, comes to the same reasons."""
    types = {**dict.fromkeys(NUMBERS, pl.Float64), **dict.fromkeys(TEXTS + FAULTS, pl.String), "b0": pl.Boolean}
    frame = pl.DataFrame(rows, schema={column: types[column] for column in VALUES})
    fired = [frame.select(fires=express_rule(rule))["fires"].to_list() for rule in rules.effective]
    for number, row in enumerate(rows):
        reasons = [rule.reason for rule, firings in zip(rules.effective, fired, strict=True) if firings[number]]
        assert rules.judge(row).reasons == tuple(dict.fromkeys(reasons))


@pytest.mark.parametrize(
    ("difference_s", "reasons"),
    [(None, ()), (0.0, ()), (-0.4, ()), (1.9, ()), (-0.6, ("length_differs",)), (2.1, ("length_differs",))],
)
def test_a_length_that_differs_from_the_record_goes_to_review(difference_s, reasons):
    """A live recording that ended early decodes without an error: only its record knows that audio is missing."""
    verdict = Rules(version="test-1", required_models=(), rules=()).judge({"length_difference_s": difference_s})
    assert verdict.reasons == reasons
    assert verdict.verdict == ("review" if reasons else "accept")


def express_rule(rule: Rule) -> pl.Expr:
    return pl.all_horizontal(express_condition(condition) for condition in rule.when)


def express_condition(condition: Condition) -> pl.Expr:
    column = pl.col(condition.column)
    match condition.op:
        case "missing":
            return column.is_null()
        case "present":
            return column.is_not_null()
    compare = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
    return compare.get(condition.op, operator.ne)(column, condition.value).fill_null(value=False)


def test_the_severest_rule_decides():
    """One reject outweighs any number of reviews, and all reasons are told, in the order of the rules."""
    rules = Rules(
        version="v",
        required_models=(),
        rules=tuple(
            Rule(reason=reason, verdict=verdict, sentence="s", when=(Condition(column="x", op=">", value=value),))
            for reason, verdict, value in [
                ("a", "review", 0),
                ("b", "reject", 1),
                ("a", "reject", 1),
                ("c", "review", 9),
            ]
        ),
    )
    assert rules.judge({"x": 0.5}).verdict == "review"
    assert rules.judge({"x": 2}).verdict == "reject"
    assert rules.judge({"x": 2}).reasons == ("a", "b")


@pytest.mark.parametrize("value", [True, 1, 1.5, "a"])
def test_the_threshold_keeps_its_type(value):
    """True is not 1 and "1" is not 1: a rule compares with what its author wrote."""
    condition = Condition(column="x", op="==", value=value)
    assert type(condition.value) is type(value)
    assert condition.holds({"x": value})

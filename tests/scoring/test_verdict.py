"""Properties of the verdicts of any rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.verdict import MAX_MARGIN, Condition, Rule, Rules

NUMBERS, TEXTS, FLAGS = ["n0", "n1", "length_difference_s"], ["s0", "s1"], ["b0"]
FAULTS = ["fault", "m_fault"]
LANGUAGES = ["hi", "ta", "en"]
VALUES = {
    "language_code": st.sampled_from(LANGUAGES),
    **dict.fromkeys(NUMBERS, st.sampled_from([-1.5, 0.0, 0.5, 2.0]) | st.integers(-2, 2)),
    **dict.fromkeys(TEXTS, st.sampled_from(["", "a", "hi"])),
    **dict.fromkeys(FLAGS, st.booleans()),
    **dict.fromkeys(FAULTS, st.sampled_from(["too_short: 0.1 s", "model_failed: boom"])),
}
ROWS = st.fixed_dictionaries({column: st.none() | values for column, values in VALUES.items()})


@st.composite
def conditions(draw):
    """Any condition that a rules file may hold on these columns."""
    column = draw(st.sampled_from(sorted(VALUES.keys() - {"language_code"})))
    ordered = ["<", "<=", ">", ">="] if column in NUMBERS else []
    op = draw(st.sampled_from([*ordered, "==", "!=", "missing", "present"]))
    limits = st.dictionaries(st.sampled_from(LANGUAGES), st.sampled_from([-1.0, 0.0, 1.0]), max_size=2)
    return Condition(
        column=column,
        op=op,
        value=None if op in {"missing", "present"} else draw(VALUES[column]),
        by_language=draw(limits) if op in ordered else {},
    )


RULE = st.builds(
    Rule,
    reason=st.sampled_from(["noisy", "clipped", "wrong_language"]),
    verdict=st.sampled_from(["review", "reject"]),
    when=st.lists(conditions(), min_size=1, max_size=3).map(tuple),
    sentence=st.just("It sounds odd."),
    languages=st.lists(st.sampled_from(LANGUAGES), max_size=2).map(tuple),
)
RULES = st.builds(
    Rules,
    version=st.just("test-1"),
    required_models=st.sampled_from([(), ("m",)]),
    rules=st.lists(RULE, max_size=5).map(tuple),
    typical=st.dictionaries(st.sampled_from(NUMBERS), st.sampled_from([-1.0, 0.0, 3.0])),
)
SEVERITY = {"accept": 0, "review": 1, "reject": 2}


@given(RULES, ROWS)
def test_a_segment_is_accepted_exactly_without_reasons(rules, row):
    """A segment is accepted exactly when no rule matches; each reason is given once."""
    verdict = rules.evaluate(row)
    assert (verdict.verdict == "accept") == (verdict.reasons == ())
    assert len(set(verdict.reasons)) == len(verdict.reasons)
    assert verdict.rules_version == "test-1"


@given(RULES, RULE, ROWS)
def test_adding_a_rule_never_makes_a_verdict_milder(rules, rule, row):
    """A further rule can only add reasons, so rules can be read one at a time."""
    before = rules.evaluate(row)
    after = rules.with_rules((*rules.rules, rule), rules.version).evaluate(row)
    assert SEVERITY[after.verdict] >= SEVERITY[before.verdict]
    assert after.reasons[: len(before.reasons)] == before.reasons


@given(RULES, ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rules_changes_only_the_order_of_reasons(rules, row, random):
    """No rule hides another rule."""
    shuffled = rules.with_rules(random.sample(rules.rules, len(rules.rules)), rules.version)
    assert shuffled.evaluate(row).verdict == rules.evaluate(row).verdict
    assert set(shuffled.evaluate(row).reasons) == set(rules.evaluate(row).reasons)


@given(conditions())
def test_a_comparison_with_a_missing_signal_never_holds(condition):
    """A null column and an absent column are treated alike; only `missing` holds for them."""
    assert condition.holds({}) == condition.holds({condition.column: None}) == (condition.op == "missing")


@given(RULES, ROWS)
def test_undecodable_audio_is_rejected_under_any_rules(rules, row):
    """Every rules file rejects audio that could not be decoded, and gives no model as the reason."""
    verdict = rules.evaluate(row | {"fault": "undecodable: no such codec", "m_fault": "undecodable: no such codec"})
    assert verdict.verdict == "reject"
    assert verdict.reasons[0] == "undecodable"
    assert "unscored:m" not in verdict.reasons


@given(RULES, ROWS)
def test_a_missing_answer_of_a_required_model_is_a_reason(rules, row):
    """Without the answer of a required model the verdict is at least review, and the reason names the model."""
    verdict = rules.evaluate(row | {"fault": None, "m_fault": "model_failed: boom"})
    required = "m" in rules.required_models
    assert ("unscored:m" in verdict.reasons) == required
    assert not required or verdict.verdict != "accept"


@given(RULES, ROWS)
def test_the_margin_is_above_zero_only_for_what_is_not_accepted(rules, row):
    """Its sign is the verdict's; zero lies on a limit. It never exceeds its bound."""
    verdict = rules.evaluate(row)
    assert -MAX_MARGIN <= verdict.margin <= MAX_MARGIN
    assert verdict.margin <= 0 if verdict.verdict == "accept" else verdict.margin >= 0


@given(st.integers(-300, 300).map(lambda n: n / 100), st.integers(-300, 300).map(lambda n: n / 100))
def test_the_margin_orders_segments_by_their_distance_from_the_limit(one, other):
    """The nearer to the limit, the smaller the margin; a typical segment lies one unit from it."""
    when = (Condition(column="n0", op="<", value=-1.0),)
    rules = Rules(
        version="v",
        required_models=(),
        rules=(Rule(reason="a", verdict="review", when=when, sentence="s"),),
        typical={"n0": 1.0},
    )
    assert rules.margin({"n0": 1.0}) == -1.0
    assert (rules.margin({"n0": one}) < rules.margin({"n0": other})) == (one > other) or one == other


def test_a_language_has_its_own_limit_and_its_own_rules():
    """A named language has its limit, every other and an unknown one the common limit; a rule is for its languages."""
    condition = Condition(column="n0", op="<", value=0.0, by_language={"hi": -2.0})
    common = Rule(reason="low", verdict="review", when=(condition,), sentence="s")
    always = (Condition(column="n0", op="present"),)
    tamil = Rule(reason="tamil", verdict="review", when=always, sentence="s", languages=("ta",))
    rules = Rules(version="v", required_models=(), rules=(common, tamil))
    assert rules.evaluate({"n0": -1.0, "language_code": "hi"}).reasons == ()
    assert rules.evaluate({"n0": -1.0, "language_code": "en"}).reasons == ("low",)
    assert rules.evaluate({"n0": -1.0, "language_code": None}).reasons == ("low",)
    assert rules.evaluate({"n0": 1.0, "language_code": "ta"}).reasons == ("tamil",)
    assert rules.columns >= {"n0", "language_code"}


@pytest.mark.parametrize(
    ("difference_s", "reasons"),
    [(None, ()), (0.0, ()), (-0.4, ()), (1.9, ()), (-0.6, ("length_differs",)), (2.1, ("length_differs",))],
)
def test_a_length_that_differs_from_the_record_goes_to_review(difference_s, reasons):
    """A live recording that ended early decodes without an error: only its record knows that audio is missing."""
    verdict = Rules(version="test-1", required_models=(), rules=()).evaluate({"length_difference_s": difference_s})
    assert verdict.reasons == reasons
    assert verdict.verdict == ("review" if reasons else "accept")


def test_the_severest_matching_rule_decides():
    """One reject outweighs any number of reviews; all reasons are given, in the order of the rules."""
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
    assert rules.evaluate({"x": 0.5}).verdict == "review"
    assert rules.evaluate({"x": 2}).verdict == "reject"
    assert rules.evaluate({"x": 2}).reasons == ("a", "b")


@pytest.mark.parametrize("value", [True, 1, 1.5, "a"])
def test_a_threshold_keeps_its_type(value):
    """True is not 1 and "1" is not 1: a rule compares with the value that its author wrote."""
    condition = Condition(column="x", op="==", value=value)
    assert type(condition.value) is type(value)
    assert condition.holds({"x": value})

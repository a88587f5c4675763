"""The rules in polars are the rules of the scorer."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.analysis.selection.verdicts import apply_rules, matches_declared_language
from validation.scoring.features import LidPrediction, count_votes
from validation.scoring.rules_io import BadRules, load_rules, parse_rules
from validation.scoring.verdict import Condition, Rule, Rules

COLUMNS = {
    "fault": pl.String,
    "ear_fault": pl.String,
    "length_difference_s": pl.Float64,
    "p": pl.Float64,
    "n": pl.Int64,
    "text": pl.String,
    "sure": pl.Boolean,
    "language_code": pl.String,
}
EDGES = [-1.5, -1.0, -0.0, 0.0, 0.1, 1.0, 1.5, 2.0, 1e300]
VALUES = {
    pl.Float64: st.sampled_from(EDGES) | st.floats(allow_nan=False, allow_infinity=False),
    pl.Int64: st.integers(-2, 2) | st.integers(-(2**53), 2**53),
    pl.String: st.sampled_from(["", "a", "b", "A"]),
    pl.Boolean: st.booleans(),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | VALUES[kind] for name, kind in COLUMNS.items()}), min_size=1, max_size=8
)


@st.composite
def conditions(draw):
    name, kind = draw(st.sampled_from(list(COLUMNS.items())))
    numeric = kind in {pl.Float64, pl.Int64}
    op = draw(st.sampled_from(["==", "!=", "missing", "present", *(["<", "<=", ">", ">="] if numeric else [])]))
    values = VALUES[pl.Float64] | VALUES[pl.Int64] if numeric else VALUES[kind]
    limits = st.dictionaries(st.sampled_from(["a", "b"]), VALUES[pl.Float64], max_size=2)
    return Condition(
        column=name,
        op=op,
        value=None if op in {"missing", "present"} else draw(values),
        by_language=draw(limits) if op in {"<", "<=", ">", ">="} else {},
    )


RULES = st.lists(
    st.builds(
        Rule,
        reason=st.sampled_from(["noisy", "odd", "short"]),
        verdict=st.sampled_from(["review", "reject"]),
        when=st.lists(conditions(), min_size=1, max_size=3).map(tuple),
        sentence=st.just("So it is."),
        languages=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    ),
    max_size=5,
)


def evaluate_rows(rules, rows):
    return [(verdict.verdict, list(verdict.reasons), verdict.margin) for verdict in map(rules.evaluate, rows)]


def evaluate_frame(rules, rows, schema):
    segments = apply_rules(pl.DataFrame(rows, schema=schema, orient="row").lazy(), rules).collect()
    columns = (segments[name].to_list() for name in ("verdict", "reasons", "margin"))
    return list(zip(*columns, strict=True))


def assert_both_engines_agree(rules, rows, schema):
    """Margins are equal but for the last bit: the engines order the operations in their own ways."""
    of_frame, of_rows = evaluate_frame(rules, rows, schema), evaluate_rows(rules, rows)
    assert [row[:2] for row in of_frame] == [row[:2] for row in of_rows]
    assert [row[2] for row in of_frame] == pytest.approx([row[2] for row in of_rows], rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(ROWS, RULES)
def test_polars_and_python_rules_give_the_same_verdict(rows, rules):
    """For any rules and signals: the same verdict, the same reasons in the same order, and the same margin."""
    typical = {"p": 0.5, "n": 1.0}
    any_rules = Rules(version="any", required_models=("ear",), rules=tuple(rules), typical=typical)
    assert_both_engines_agree(any_rules, rows, COLUMNS)


def test_rules_beyond_one_word_of_bits_are_told_apart():
    """Which rules fire is kept in bits, and 150 rules need three words: each row names exactly its own reasons."""
    rules = Rules(
        version="many",
        required_models=(),
        rules=tuple(
            Rule(
                reason=f"r{place}",
                verdict="review",
                when=(Condition(column="n", op="==", value=place),),
                sentence="So it is.",
            )
            for place in range(150)
        ),
    )
    rows = [dict.fromkeys(COLUMNS) | {"n": place} for place in (0, 60, 61, 63, 64, 65, 125, 149, None)]
    found = [(verdict, reasons) for verdict, reasons, _ in evaluate_frame(rules, rows, COLUMNS)]
    assert found == [(verdict, reasons) for verdict, reasons, _ in evaluate_rows(rules, rows)]
    assert found[1] == ("review", ["r60"])


FLOAT, INT, STR = pl.Float64, pl.Int64, pl.String
LOCAL = {
    "fault": STR, "whisper_fault": STR, "dnsmos_fault": STR, "silero_fault": STR, "silero_speech_ratio": FLOAT,
    "rms_dbfs": FLOAT, "dnsmos_bak": FLOAT, "dnsmos_ovr": FLOAT, "clipped_fraction": FLOAT,
    "language_votes_for": INT, "language_votes_against": INT, "whisper_language_p": FLOAT, "whisper_declared_p": FLOAT,
    "duration_s": FLOAT, "length_difference_s": FLOAT, "text_normalised": STR, "whisper_align_tok": FLOAT,
    "whisper_align_min": FLOAT, "cer": FLOAT, "script_fraction": FLOAT,
    "chars_per_s": FLOAT,
}  # fmt: skip
LOCAL_RULES = load_rules("local-2")
LIMITS = sorted({c.value for rule in LOCAL_RULES.rules for c in rule.when if isinstance(c.value, float | int)})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                name: st.none() | {FLOAT: st.sampled_from(LIMITS).map(float) | st.floats(-70, 70),
                                   INT: st.integers(0, 2), STR: st.sampled_from(["", "x"])}[kind]
                for name, kind in LOCAL.items()
            }
        ), min_size=1, max_size=20,
    )
)  # fmt: skip
def test_packaged_rules_give_the_same_verdict_in_polars_and_python(rows):
    """The packaged rules agree on all values, also on those that equal a limit."""
    assert_both_engines_agree(LOCAL_RULES, rows, LOCAL)


def test_unknown_column_in_a_rule_names_the_nearest():
    """A typing error is refused; otherwise it would be a rule that never fires."""
    rules = parse_rules(
        'version = "mine"\nrequired_models = []\n[[rules]]\nreason = "noisy"\nverdict = "review"\nsentence = "x"\n'
        'when = [{ column = "dnsmos_orv", op = "<", value = 2.0 }]',
        file="mine.toml",
    )
    with pytest.raises(BadRules, match="no column dnsmos_orv; the nearest is dnsmos_ovr"):
        apply_rules(pl.LazyFrame(schema=LOCAL), rules)


@pytest.mark.parametrize("column", ["verdict", "reasons"])
def test_rules_may_not_read_verdict_columns(column):
    """A verdict depends on signals only, not on an older verdict."""
    rule = Rule(reason="odd", verdict="review", sentence="x", when=(Condition(column=column, op="present"),))
    rules = Rules(version="mine", required_models=(), rules=(rule,))
    with pytest.raises(BadRules, match=f"no column {column}"):
        apply_rules(pl.LazyFrame(schema=LOCAL | {"verdict": STR, "reasons": pl.List(STR)}), rules)


def test_limit_beyond_exact_floats_is_refused():
    """Beyond 2**53 a float does not distinguish neighbouring integers, so engines would compare differently."""
    with pytest.raises(ValueError, match="too large"):
        Condition(column="n", op="<", value=2**53 + 1)


def test_a_vote_for_a_lect_counts_as_when_the_segment_was_scored():
    """A first choice matches the declared language in polars exactly if ``count_votes`` counts it as a vote for it."""
    labels = ("hi", "bho", "awa", "iw", "he", "sr", "hr", "ta")
    pairs = pl.DataFrame(
        [(one, other) for one in (*labels, None) for other in (*labels, None)],
        orient="row",
        schema={"lid_language": pl.String, "language_code": pl.String},
    )
    found = pairs.lazy().select(matches_declared_language("lid")).collect().to_series().to_list()
    for (top1, declared), matches in zip(pairs.rows(), found, strict=True):
        votes = count_votes(declared, [LidPrediction(top1, 0.9)])
        assert (votes.agreeing, votes.opposing) == (matches is True, matches is False), (top1, declared)
    assert found[1] is True

"""Rules that are written are the rules that are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.rules_file import load_rules, parse_rules
from validation.scoring.rules_text import dump_rules
from validation.scoring.verdict import Condition, Rule, Rules

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
CONDITIONS = st.one_of(
    st.builds(Condition, column=TEXT, op=st.sampled_from(["<", ">="]), value=NUMBERS),
    st.builds(Condition, column=TEXT, op=st.sampled_from(["==", "!="]), value=NUMBERS | TEXT | st.booleans()),
    st.builds(Condition, column=TEXT, op=st.sampled_from(["missing", "present"])),
)
RULES = st.builds(
    Rules,
    version=TEXT,
    required_models=st.lists(TEXT, max_size=3).map(tuple),
    rules=st.lists(
        st.builds(
            Rule,
            reason=st.sampled_from(["noisy", "unscored:ear"]),
            verdict=st.sampled_from(["review", "reject"]),
            when=st.lists(CONDITIONS, min_size=1, max_size=3).map(tuple),
            sentence=TEXT,
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)


@given(RULES)
def test_written_rules_read_back_as_they_were(rules):
    """Any text, any number, to the last bit."""
    assert parse_rules(dump_rules(rules, preface="One.\nTwo.", notes={0: "Why."}), "x") == rules


@pytest.mark.parametrize("version", ["local-1", "local-2", "vad-1"])
def test_the_packaged_rules_survive(version):
    """What is calibrated starts from them."""
    rules = load_rules(version)
    assert parse_rules(dump_rules(rules), "x") == rules

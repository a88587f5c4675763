"""Limits by language from committed shards, and the rules file that they are written into."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.calibration.language_limits import apply_language_limits, find_quantiles, propose_language_limits
from validation.cli.main import main
from validation.errors import BadInput
from validation.scoring.rules_io import load_rules, parse_rules, read_packaged_text, rewrite_rules

RULES = """# Above all.
version = "v-1"
required_models = []

[[rules]]
reason = "mismatch"
verdict = "reject"
sentence = "Bad."
when = [{ column = "ear_align_tok", op = "<", value = -3.0 }]

# Why it is here.
[[rules]]
reason = "mismatch"
verdict = "review"
sentence = "Poor."
# Measured once.
when = [{ column = "ear_align_tok", op = "<", value = -2.0 }]

[[rules]]
reason = "not_understood"
verdict = "review"
sentence = "Unlike."
when = [{ column = "roman_cer", op = ">=", value = 0.6 }]
"""


@pytest.fixture
def segments() -> pl.DataFrame:
    """300 Hindi segments, 300 Tamil segments that the recogniser knows badly, and 10 Odia segments."""
    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "kstpm" for b in "aeiou" for c in "nrlvd"]
    rows = []
    for language, count, center in (("hi", 300, -0.5), ("ta", 300, -4.0), ("or", 10, -1.0)):
        for _ in range(count):
            text = " ".join(rng.choice(words, 8))
            score = center + 0.3 * rng.standard_normal()
            rows.append({"language_code": language, "text": text, "ear_text": text, "fault": None,
                         "ear_align_tok": score, "roman_cer": float(rng.uniform(0, 0.3))})  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"fault": pl.String})


def test_a_language_gets_the_quantile_of_its_own_segments(segments):
    """At most the allowed share of a language lies beyond its limit; a language of few segments has none."""
    limits = list(propose_language_limits(segments, parse_rules(RULES, "x"), share=0.02))
    assert {each.language for each in limits} == {"hi", "ta"}
    for each in (each for each in limits if each.condition.column == "roman_cer"):
        own = segments.filter(pl.col("language_code") == each.language)["roman_cer"]
        assert (own >= each.limit).mean() <= 0.021
        assert each.found_swapped > 0.95


def test_a_review_limit_includes_what_is_rejected(segments):
    """The quantile of Tamil lies beyond the reject limit, so the limit stays at the reject limit."""
    limits = list(propose_language_limits(segments, parse_rules(RULES, "x"), share=0.02))
    by_language = {each.language: each.limit for each in limits if each.condition.column == "ear_align_tok"}
    assert by_language["ta"] == -3.0
    assert -1.5 < by_language["hi"] < -0.8


def test_limits_are_written_with_all_comments(segments):
    """Only the limits and the version change; the file reads back as the proposed rules."""
    rules = parse_rules(RULES, "x")
    proposed = apply_language_limits(rules, list(propose_language_limits(segments, rules, share=0.02)), "v-2")
    written = rewrite_rules(RULES, proposed, preface="Proposed.", notes={1: "Changed."})
    assert parse_rules(written, "y") == proposed
    assert written.startswith("# Proposed.")
    for comment in ("# Above all.", "# Why it is here.", "# Measured once.", "# Changed."):
        assert comment in written


VALUES = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.01, 0.02, -3e5, 7e8]))


@settings(deadline=None, max_examples=80)
@given(st.dictionaries(st.sampled_from(["hi", "ta", "te"]), st.lists(VALUES, min_size=1, max_size=40), min_size=1),
       st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.99, 1.0]))  # fmt: skip
def test_quantiles_that_are_counted_in_bins_equal_those_of_sorted_values(values, quantile):
    """Bins only narrow the search: the quantile is exact, also with ties and with values beyond the outermost bins."""
    rows = [{"language_code": language, "x": value} for language, own in values.items() for value in own]
    rows += [{"language_code": None, "x": 1.0}, {"language_code": "hi", "x": None}]
    found = find_quantiles(pl.LazyFrame(rows, schema={"language_code": pl.String, "x": pl.Float64}), "x", quantile)
    assert {language: count for language, (count, _) in found.items()} == {k: len(own) for k, own in values.items()}
    for language, own in values.items():
        assert found[language][1] == pytest.approx(np.quantile(own, quantile), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["local-3", "indic-2", "vad-1"])
def test_packaged_rules_can_be_rewritten(name):
    """Every packaged file is laid out so that its limits can be replaced, with every comment kept."""
    text, rules = read_packaged_text(name), load_rules(name)
    written = rewrite_rules(text, rules.with_rules(rules.rules, "other"), preface="x", notes={})
    assert written.count("#") == text.count("#") + 1
    assert parse_rules(written, "y").rules == rules.rules


def test_a_layout_that_cannot_be_rewritten_is_refused():
    """Conditions in tables of their own are read, but not replaced."""
    text = RULES[: RULES.index("[[rules]]")] + (
        '[[rules]]\nreason = "a"\nverdict = "review"\nsentence = "s"\n'
        '[[rules.when]]\ncolumn = "roman_cer"\nop = ">"\nvalue = 1.0\n'
    )
    rules = parse_rules(text, "x")
    (rule,) = rules.rules
    when = (rule.when[0].model_copy(update={"value": 2.0}),)
    with pytest.raises(BadInput, match="cannot be rewritten"):
        rewrite_rules(
            text, rules.model_copy(update={"rules": (rule.model_copy(update={"when": when}),)}), preface="", notes={}
        )


def test_the_command_writes_limits_from_a_selection(tmp_path, segments, capsys):
    """`--shards` reads a selection and writes rules; a file without the columns is refused in one sentence."""
    source, rules, out = tmp_path / "all.parquet", tmp_path / "base.toml", tmp_path / "mine.toml"
    rules.write_text(RULES)
    segments.write_parquet(source)
    asked = ["calibrate", "--shards", str(source), "--rules", str(rules), "--loss", "0.02", "--out", str(out)]
    assert main(asked) == 0
    assert "by_language" in out.read_text()
    assert "2 limits were tried for each of 3 languages; 2 languages have the 200 segments" in capsys.readouterr().out
    assert main([*asked[:-2], "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(line["condition"]["column"], line["language"]) for line in lines} >= {("ear_align_tok", "hi")}
    segments.drop("text").write_parquet(source)
    out.unlink()
    assert main(asked) == 2
    assert "has no column text" in capsys.readouterr().err
    assert main(["calibrate", "--shards", str(tmp_path), "--rules", str(rules)]) == 2
    assert "is a folder: write its segments to a file with `vfleet select FILE" in capsys.readouterr().err

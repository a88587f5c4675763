"""Limits from trusted clips and, by language, from committed shards, and the rules file that they are written into."""

import numpy as np
import polars as pl
import pytest

from validation.calibration.limits import apply_language_limits, propose_language_limits
from validation.cli.main import main
from validation.cli.results import find_rules
from validation.errors import BadInput
from validation.local.sample_corpus import CLIPS
from validation.scoring.rules_io import load_rules, parse_rules, read_packaged_text, rewrite_rules


def test_calibrate_writes_rules_that_select_reads(tmp_path, capsys):
    """The rules have their own version and lose no sound clip; an existing file is never overwritten."""
    out = tmp_path / "mine.toml"
    command = ["calibrate", str(CLIPS), "--suite", "vad", "--out", str(out), "--version", "mine-1"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "23 clips are too few to measure a loss of 1.0%" in output
    assert "expected on unseen sound segments" in output
    rules, base = find_rules(str(out), "vad"), load_rules("vad-1")
    assert rules.version == "mine-1"
    assert [rule.reason for rule in rules.rules] == [rule.reason for rule in base.rules]
    assert out.read_text().startswith("# Limits proposed by `vfleet calibrate` from 23 trusted clips.")

    before = out.read_text()
    assert main(command) == 2
    assert "rules are never overwritten" in capsys.readouterr().err
    assert out.read_text() == before


def test_too_few_clips_write_no_limits(tmp_path, capsys):
    """The refusal names the number that is needed; the proposals can still be printed."""
    out = tmp_path / "mine.toml"
    asked = ["calibrate", str(CLIPS), "--suite", "vad", "--out", str(out), "--min-clips", "50"]
    assert main(asked) == 2
    assert "23 clips are too few to write limits: 50 are needed" in capsys.readouterr().err
    assert not out.exists()


def test_calibrate_asks_for_clips_or_shards(capsys):
    """Neither and both are refused."""
    assert main(["calibrate", "--suite", "vad"]) == 2
    assert "either a folder of trusted clips or --shards" in capsys.readouterr().err


def test_calibrate_refuses_rules_of_another_suite(capsys):
    """A rule on a column that the suite lacks would never fire."""
    assert main(["calibrate", str(CLIPS), "--suite", "vad", "--rules", "local-1"]) == 2
    assert "no column whisper_fault" in capsys.readouterr().err


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
    segments.drop("text").write_parquet(source)
    out.unlink()
    assert main(asked) == 2
    assert "has no column text" in capsys.readouterr().err

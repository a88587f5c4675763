"""`vfleet calibrate`, on the packaged clips and the cheapest suite."""

from validation.cli.main import main
from validation.cli.results import find_rules
from validation.local.sample_corpus import CLIPS
from validation.scoring.rules_io import load_rules


def test_calibrate_writes_rules_that_select_reads(tmp_path, capsys):
    """Rules of their own version, as strict as no sound clip minds; a file that is there is never overwritten."""
    out = tmp_path / "mine.toml"
    asked = ["calibrate", str(CLIPS), "--suite", "vad", "--out", str(out), "--version", "mine-1"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    assert "23 clips are too few to measure a loss of 1.0%" in told
    assert "expected on unseen sound segments" in told
    rules, base = find_rules(str(out), "vad"), load_rules("vad-1")
    assert rules.version == "mine-1"
    assert [rule.reason for rule in rules.rules] == [rule.reason for rule in base.rules]
    assert out.read_text().startswith("# Limits proposed by `vfleet calibrate` from 23 trusted clips.")

    before = out.read_text()
    assert main(asked) == 2
    assert "rules are never overwritten" in capsys.readouterr().err
    assert out.read_text() == before


def test_calibrate_refuses_rules_of_another_suite(capsys):
    """A rule that reads what this suite does not say would never fire."""
    assert main(["calibrate", str(CLIPS), "--suite", "vad", "--rules", "local-1"]) == 2
    assert "no column whisper_fault" in capsys.readouterr().err

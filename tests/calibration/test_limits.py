"""Limits from trusted clips, and the rules file that they are written into."""

from validation.cli.main import main
from validation.cli.results import find_rules
from validation.local.sample_corpus import CLIPS
from validation.scoring.rules_io import load_rules


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

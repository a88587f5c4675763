"""The report's aggregates equal the rows of the shards."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.report_helpers import RULES, SCHEMA, make_row, sample_rows
from validation.analysis.report import findings as findings_module
from validation.analysis.report.findings import gather_findings
from validation.analysis.report.rule_margin import MARGIN, rule_margin
from validation.analysis.report.signals import Signal, find_limits, find_quantiles, find_signals
from validation.analysis.selection.verdicts import apply_rules

FIELDS = {field.name: field for field in SCHEMA}


def frame(rows) -> pl.LazyFrame:
    return pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)).lazy()


def gather(rows, **options):
    segments = apply_rules(frame(rows), RULES)
    signals = find_signals(segments, FIELDS)
    return gather_findings(segments, RULES, signals, **({"worst_per_reason": 2, "borderline": 4} | options)), signals


def test_every_segment_is_counted_once():
    """The counts by language, verdict, reason and bin add up to the number of rows."""
    rows = sample_rows()
    findings, signals = gather(rows)
    assert findings.segments == len(rows)
    assert sum(row[v] for row in findings.languages for v in ("accept", "review", "reject")) == len(rows)
    assert findings.hours() == pytest.approx(sum(row["duration_s"] or 0 for row in rows) / 3600)
    assert {reason.reason: reason.segments for reason in findings.reasons} == {
        reason: sum(reason in row["reasons"] for row in rows) for reason in ("noisy", "mismatch", "undecodable")
    }
    for signal in signals:
        known = sum(row.get(signal.name) is not None for row in rows)
        assert findings.histograms[signal.name]["count"].sum() == known, signal.name


def test_each_rule_is_counted_with_its_own_sentence():
    """A reason may have several rules, so the report counts what each rule finds, whichever others fire."""
    rows = sample_rows()
    findings, _ = gather(rows)
    expected = {
        rule.sentence: sum(rule.matches({name: row.get(name) for name in SCHEMA.names}) for row in rows)
        for rule in RULES.effective
    }
    assert {rule.sentence: rule.segments for rule in findings.rules} == {
        sentence: count for sentence, count in expected.items() if count
    }


def test_signals_have_units_descriptions_and_ranges():
    """Numeric columns are listed with unit, description and range; positions, vote counts and empty columns are not."""
    _, signals = gather(sample_rows())
    by_name = {signal.name: signal for signal in signals}
    assert list(by_name) == ["duration_s", "cer", "ear_declared_p", "nose_declared_p", "scale_ovr"]
    assert (by_name["scale_ovr"].unit, by_name["scale_ovr"].description) == ("MOS 1-5", "How good it is.")
    assert by_name["duration_s"].low <= 1 <= by_name["duration_s"].median <= 9 <= by_name["duration_s"].high


def test_lid_votes_agree_differ_abstain_or_are_unscored():
    """A missing answer is unscored and an unknown language an abstention; neither counts as disagreement."""
    rows = [
        make_row("a", 0),
        make_row("a", 1, heard="ur"),
        make_row("a", 2, ear_language="ur", ear_declared_p=None),
        make_row("a", 3, ear_language=None, ear_declared_p=None, ear_fault="model_failed: x"),
    ]
    findings, _ = gather(rows)
    ear, nose = findings.lid_votes
    assert {key: ear[key] for key in ("agrees", "differs", "abstains", "unscored")} == {
        "agrees": 1, "differs": 1, "abstains": 1, "unscored": 1,
    }  # fmt: skip
    assert nose["agrees"] == 4
    assert findings.lid_pairs == [{"one": "ear", "other": "nose", "both": 3, "same": 1}]
    assert findings.confusions == [{"model": "ear", "declared": "hi", "predicted": "ur", "count": 1}]


def test_worst_and_borderline_are_ordered_by_margin():
    """Worst: the largest margins per reason; borderline: the smallest overall; undecodable segments are in neither."""
    rows = [make_row("a", n, ovr=1.0 + n / 10) for n in range(20)]
    findings, _ = gather(rows)
    assert [row["segment_index"] for row in findings.worst] == [0, 1]
    assert {row["segment_index"] for row in findings.borderline} == {8, 9, 10, 11}
    assert all(row["fault"] is None for row in [*findings.worst, *findings.borderline])


def test_findings_do_not_depend_on_the_parts_that_are_read(monkeypatch):
    """Segments that are counted a few at a time give the same aggregates and the same shown segments as all at once."""
    rows = [
        make_row(f"v{n % 5}", n // 5, ovr=1.0 + n % 13 / 5, cer=n % 7 / 10, duration_s=1.0 + n % 3) for n in range(60)
    ]
    rows += [make_row("w", 0, heard="ur", language="ta"), make_row("w", 1, fault="bad_audio: x", ear_fault="x: y")]
    whole, signals = gather(rows)
    monkeypatch.setattr(findings_module, "PART_ROWS", 7)
    parts, _ = gather(rows)
    assert list(parts.languages) == [pytest.approx(row) for row in whole.languages]
    assert (parts.reasons, parts.lid_votes) == (whole.reasons, whole.lid_votes)
    assert (parts.lid_pairs, parts.confusions) == (whole.lid_pairs, whole.confusions)
    assert (parts.worst, parts.borderline) == (whole.worst, whole.borderline)
    assert parts.correlations == pytest.approx(whole.correlations)
    for signal in signals:
        bins = ["language", "verdict", "bin"]
        assert parts.histograms[signal.name].sort(bins).equals(whole.histograms[signal.name].sort(bins))


def test_correlations_equal_those_of_numpy(monkeypatch):
    """Moments that are joined part by part give Pearson's r, also for values far from 0; a constant has none."""
    monkeypatch.setattr(findings_module, "PART_ROWS", 4)
    rows = [make_row("a", n, ovr=1e6 + n % 5, cer=n * n % 11 / 7, duration_s=2.0) for n in range(30)]
    found = gather(rows)[0].correlations
    pair = next(pair for pair in found if set(pair) == {"scale_ovr", "cer"})
    expected = np.corrcoef([row["scale_ovr"] for row in rows], [row["cer"] for row in rows])[0, 1]
    assert found[pair] == pytest.approx(expected, rel=1e-6)
    assert all(r is None for names, r in found.items() if "duration_s" in names)


def test_the_worst_segments_are_of_different_videos():
    """A bad video shows its worst segment once before the next video, because its segments show the same fault."""
    rows = [make_row("a", n, ovr=1.0) for n in range(5)] + [make_row("b", 0, ovr=1.5)]
    findings, _ = gather(rows)
    assert [(row["video_id"], row["segment_index"]) for row in findings.worst] == [("a", 0), ("b", 0)]


SIGNALS = {
    name: Signal(name, "", "", 0.0, median, 10.0)
    for name, median in (("scale_ovr", 3.0), ("cer", 0.1), ("duration_s", 4.0))
}
VALUE = st.none() | st.floats(0, 10)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=1, max_size=10))
def test_margin_sign_follows_the_verdict(values):
    """A positive margin is never accepted and a negative one always, also with missing values; zero may be either."""
    rows = [make_row("a", n, ovr=ovr, cer=cer, duration_s=long) for n, (ovr, cer, long) in enumerate(values)]
    margins = frame(rows).select(rule_margin(RULES.effective, SIGNALS)).collect()[MARGIN]
    for row, margin in zip(rows, margins, strict=True):
        if margin > 0:
            assert row["verdict"] != "accept"
        elif margin < 0:
            assert row["verdict"] == "accept"


def test_margin_is_the_distance_to_the_other_verdict():
    """A median segment has margin -1; a rule with two conditions has the margin of its weaker condition."""
    rows = [make_row("a", 0, ovr=3.0, cer=0.0), make_row("a", 1, ovr=1.5), make_row("a", 2, cer=0.9, duration_s=1.3)]
    margins = frame(rows).select(rule_margin(RULES.effective, SIGNALS)).collect()[MARGIN].to_list()
    assert margins == pytest.approx([-1.0, 0.5, 0.1])


def test_quantiles_assume_even_spread_within_bins():
    """Quantiles are interpolated linearly within a bin."""
    assert find_quantiles([10, 10, 10, 10], 0.0, 4.0) == pytest.approx((0.2, 1.0, 2.0, 3.0, 3.8))
    assert find_quantiles([0, 0, 8, 0], 0.0, 4.0) == pytest.approx((2.05, 2.25, 2.5, 2.75, 2.95))


def test_limits_are_the_numbers_in_the_rules():
    assert find_limits("scale_ovr", RULES) == [(2.0, "reject")]
    assert find_limits("ear_declared_p", RULES) == []

"""What the page says is what the shards hold."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.report_helpers import RULES, SCHEMA, make_row, sample_rows
from validation.analysis.report.distributions import find_limits, find_quantiles
from validation.analysis.report.findings import gather_findings
from validation.analysis.report.rule_margin import DOUBT, rule_margin
from validation.analysis.report.signals import Signal, find_signals
from validation.analysis.selection.verdicts import judge_segments

FIELDS = {field.name: field for field in SCHEMA}


def frame(rows) -> pl.LazyFrame:
    return pl.from_arrow(pa.Table.from_pylist(rows, SCHEMA)).lazy()


def gather(rows, **options):
    judged = judge_segments(frame(rows), RULES)
    signals = find_signals(judged, FIELDS)
    return gather_findings(judged, RULES, signals, **({"worst_a_reason": 2, "borderline": 4} | options)), signals


def test_everything_is_counted_once():
    """Languages, verdicts, reasons and bins add up to the rows."""
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


def test_signals_are_described_and_bounded():
    """Numbers with units and meanings; places and votes are none; what nobody has is left out."""
    _, signals = gather(sample_rows())
    by_name = {signal.name: signal for signal in signals}
    assert list(by_name) == ["duration_s", "cer", "ear_declared_p", "nose_declared_p", "scale_ovr"]
    assert (by_name["scale_ovr"].unit, by_name["scale_ovr"].description) == ("MOS 1-5", "How good it is.")
    assert by_name["duration_s"].low <= 1 <= by_name["duration_s"].usual <= 9 <= by_name["duration_s"].high


def test_judges_agree_differ_abstain_or_are_silent():
    """Four stances, told apart; the share of agreement is of those that know the language."""
    rows = [
        make_row("a", 0),
        make_row("a", 1, heard="ur"),
        make_row("a", 2, ear_language="ur", ear_declared_p=None),
        make_row("a", 3, ear_language=None, ear_declared_p=None, ear_fault="model_failed: x"),
    ]
    findings, _ = gather(rows)
    ear, nose = findings.judges
    assert {key: ear[key] for key in ("agrees", "differs", "abstains", "silent")} == {
        "agrees": 1, "differs": 1, "abstains": 1, "silent": 1,
    }  # fmt: skip
    assert nose["agrees"] == 4
    assert findings.pairs == [{"one": "ear", "other": "nose", "both": 3, "same": 1}]
    assert findings.confusions == [{"judge": "ear", "declared": "hi", "heard": "ur", "count": 1}]


def test_the_worst_are_furthest_and_the_borderline_nearest():
    """By reason the deepest inside it; of all, those with the smallest margin; never what cannot be heard."""
    rows = [make_row("a", n, ovr=1.0 + n / 10) for n in range(20)]
    findings, _ = gather(rows)
    assert [row["segment_index"] for row in findings.worst] == [0, 1]
    assert {row["segment_index"] for row in findings.borderline} == {8, 9, 10, 11}
    assert all(row["fault"] is None for row in [*findings.worst, *findings.borderline])


SIGNALS = {
    name: Signal(name, "", "", 0.0, usual, 10.0)
    for name, usual in (("scale_ovr", 3.0), ("cer", 0.1), ("duration_s", 4.0))
}
VALUE = st.none() | st.floats(0, 10)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(VALUE, VALUE, VALUE), min_size=1, max_size=10))
def test_doubt_has_the_sign_of_the_verdict(values):
    """Above nought not accepted, below it accepted, whatever is missing; at nought it may be either."""
    rows = [make_row("a", n, ovr=ovr, cer=cer, duration_s=long) for n, (ovr, cer, long) in enumerate(values)]
    doubts = frame(rows).select(rule_margin(RULES.effective, SIGNALS)).collect()[DOUBT]
    for row, doubt in zip(rows, doubts, strict=True):
        if doubt > 0:
            assert row["verdict"] != "accept"
        elif doubt < 0:
            assert row["verdict"] == "accept"


def test_doubt_is_the_way_to_the_other_verdict():
    """A usual segment is one away from the nearest limit; a rule with two conditions holds by its weaker one."""
    rows = [make_row("a", 0, ovr=3.0, cer=0.0), make_row("a", 1, ovr=1.5), make_row("a", 2, cer=0.9, duration_s=1.3)]
    doubts = frame(rows).select(rule_margin(RULES.effective, SIGNALS)).collect()[DOUBT].to_list()
    assert doubts == pytest.approx([-1.0, 0.5, 0.1])


def test_quantiles_come_from_bins():
    """As if values lay evenly in their bin; nothing else is known of them."""
    assert find_quantiles([10, 10, 10, 10], 0.0, 4.0) == pytest.approx((0.2, 1.0, 2.0, 3.0, 3.8))
    assert find_quantiles([0, 0, 8, 0], 0.0, 4.0) == pytest.approx((2.05, 2.25, 2.5, 2.75, 2.95))


def test_limits_are_those_of_the_rules():
    assert find_limits("scale_ovr", RULES) == [(2.0, "reject")]
    assert find_limits("ear_declared_p", RULES) == []

"""The best hours of each language."""

import polars as pl
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.report_helpers import RULES_TOML, sample_rows, write_shards
from validation.analysis.selection.best import LEFT_OUT, STEP, keep_best
from validation.cli.main import main

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "language_code": st.sampled_from(["hi", "ta", None]),
            "language": st.sampled_from(["hi", None]),
            "verdict": st.sampled_from(["accept", "accept", "review", "reject"]),
            "margin": st.floats(-4, 4) | st.sampled_from([-1.0, -0.5]),
            "duration_s": st.none() | st.integers(1, 20).map(float),
        }
    ),
    min_size=1,
    max_size=20,
)
SCHEMA = {
    "language_code": pl.String,
    "language": pl.String,
    "verdict": pl.String,
    "margin": pl.Float64,
    "duration_s": pl.Float64,
}


@settings(max_examples=80, deadline=None)
@given(ROWS, st.integers(0, 60))
def test_the_best_segments_of_each_language_are_kept_up_to_the_wanted_hours(rows, seconds):
    """At most the wanted hours; no segment that is left out is better than one that is kept; no other row changes."""
    segments, kept = keep_best(pl.DataFrame(rows, schema=SCHEMA).lazy(), ["accept"], seconds / 3600)
    after = segments.collect().to_dicts()
    by_language = {}
    for row, before in zip(after, rows, strict=True):
        assert row | {"verdict": before["verdict"]} == before
        assert row["verdict"] == before["verdict"] or (before["verdict"], row["verdict"]) == ("accept", LEFT_OUT)
        by_language.setdefault(row["language_code"] or row["language"] or "unknown", []).append(row)
    for language, found in by_language.items():
        best = [row for row in found if row["verdict"] == "accept"]
        left_out = [row for row in found if row["verdict"] == LEFT_OUT]
        hours = sum(row["duration_s"] or 0 for row in best) / 3600
        assert hours <= seconds / 3600 + 1e-9
        if best and left_out:
            assert max(row["margin"] for row in best) <= min(row["margin"] for row in left_out) + STEP
        assert sum(row.segments for row in kept if row.language == language) == len(best)


def test_select_writes_the_best_hours_only(tmp_path, capsys):
    """The file holds the best accepted segments; the counts of the rules are still printed."""
    write_shards(tmp_path / "results", sample_rows())
    rules = tmp_path / "sample.toml"
    rules.write_text(RULES_TOML)
    out = tmp_path / "best.parquet"
    command = ["select", str(out), "--shards", str(tmp_path / "results"), "--rules", str(rules), "--best-hours", "0.02"]
    assert main(command) == 0
    table = pq.read_table(out)
    assert set(table["verdict"].to_pylist()) == {"accept"}
    hours = {}
    for row in table.select(["language", "duration_s"]).to_pylist():
        hours[row["language"]] = hours.get(row["language"], 0) + row["duration_s"] / 3600
    assert set(hours) == {"hi", "ta"}
    assert all(0 < each <= 0.02 for each in hours.values())
    assert "best of language" in capsys.readouterr().out

"""Caps by video, by speaker and by text, and equal audio only once."""

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.report_helpers import RULES_TOML, sample_rows, write_shards
from validation.analysis.selection.caps import CAPPED, Caps, apply_caps
from validation.cli.main import main
from validation.errors import BadInput

SCHEMA = {
    "video_id": pl.String, "segment_index": pl.Int64, "speaker": pl.String, "language_code": pl.String,
    "language": pl.String, "text_normalised": pl.String, "verdict": pl.String, "margin": pl.Float64,
    "duration_s": pl.Float64, "rms_dbfs": pl.Float64, "edge_start_db": pl.Float64, "edge_end_db": pl.Float64,
    "flat_fraction": pl.Float64, "bandwidth_hz": pl.Float64,
}  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "video_id": st.sampled_from(["a", "b"]),
            "speaker": st.sampled_from(["A", None]),
            "language_code": st.just("hi"),
            "text_normalised": st.sampled_from(["one two", "One, two!", "three and four", "three and four!", ""]),
            "verdict": st.sampled_from(["accept", "accept", "review"]),
            "margin": st.floats(-4, 0),
            "duration_s": st.integers(1, 9).map(float),
            "rms_dbfs": st.sampled_from([-20.0, -21.0, None]),
        }
    ),
    max_size=12,
)


def cap(tmp_path, rows, **caps):
    rows = [dict.fromkeys(SCHEMA) | row | {"segment_index": index} for index, row in enumerate(rows)]
    frame = pl.DataFrame(rows, schema=SCHEMA).lazy()
    segments, summaries = apply_caps(frame, ["accept"], Caps(**caps), tmp_path)
    return rows, segments.collect().to_dicts(), summaries


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(0, 20), st.integers(0, 20), st.integers(1, 3))
def test_no_cap_is_exceeded_and_only_wanted_segments_are_left_out(tmp_path_factory, rows, video_s, speaker_s, per_text):
    """Every cap holds for what is kept; nothing else than the verdict of wanted segments changes; counts agree."""
    caps = {"hours_per_video": video_s / 3600, "hours_per_speaker": speaker_s / 3600, "segments_per_text": per_text}
    before, after, summaries = cap(tmp_path_factory.mktemp("caps"), rows, **caps, distinct_audio=True)
    for old, new in zip(before, after, strict=True):
        assert new | {"verdict": old["verdict"]} == old
        assert (old["verdict"], new["verdict"]) in {("accept", "accept"), ("accept", CAPPED), ("review", "review")}
    kept = [row for row in after if row["verdict"] == "accept"]
    for limit, *keys in ((video_s, "video_id"), (speaker_s, "video_id", "speaker")):
        totals = {}
        for row in kept:
            group = tuple(row[key] for key in keys)
            totals[group] = totals.get(group, 0) + row["duration_s"]
        assert all(total <= limit + 1e-9 for total in totals.values())
    texts = ["".join(filter(str.isalnum, row["text_normalised"])).lower() for row in kept]
    assert all(texts.count(text) <= per_text for text in texts if text)
    audio = [(row["duration_s"], row["rms_dbfs"]) for row in kept if row["rms_dbfs"] is not None]
    assert len(audio) == len(set(audio))
    assert sum(row.segments for row in summaries) == sum(row["verdict"] == CAPPED for row in after)


@pytest.mark.parametrize(
    ("caps", "kept"),
    [
        ({"hours_per_video": 4 / 3600}, [1, 2, 3]),
        ({"hours_per_speaker": 2 / 3600}, [1, 2, 3]),
        ({"segments_per_text": 1}, [1, 3]),
        ({"distinct_audio": True}, [1, 2]),
    ],
)
def test_of_what_competes_the_lowest_margin_is_kept(tmp_path, caps, kept):
    """The segments farthest inside the rules win, and each cap counts by its own group."""
    shared = {"verdict": "accept", "duration_s": 2.0, "video_id": "a", "text_normalised": "x"}
    rows = [
        shared | {"margin": -0.1, "speaker": "A", "rms_dbfs": -20.0},
        shared | {"margin": -0.9, "speaker": "A", "rms_dbfs": -20.0},
        shared | {"margin": -0.5, "speaker": "B", "rms_dbfs": -21.0},
        shared | {"margin": -0.2, "speaker": "C", "rms_dbfs": -21.0, "video_id": "b", "text_normalised": "y"},
    ]
    _, after, _ = cap(tmp_path, rows, **caps)
    assert [row["segment_index"] for row in after if row["verdict"] == "accept"] == kept


def test_a_text_with_one_other_word_counts_as_the_same_text(tmp_path):
    """Transcripts of one sentence differ in a letter or two; another sentence, and another language, are not capped."""
    sentence = "and so my fellow citizens ask not what your country can do for you"
    shared = {"verdict": "accept", "duration_s": 2.0, "video_id": "a", "margin": -0.5, "language_code": "en"}
    texts = [sentence, sentence.replace("citizens", "citizen"), sentence.replace("ask", "ask,").upper(),
             "ask not what your country can do", "something else entirely"]  # fmt: skip
    rows = [shared | {"text_normalised": text, "margin": -1 + n / 10} for n, text in enumerate(texts)]
    rows.append(shared | {"text_normalised": sentence, "language_code": "hi"})
    _, after, (summary,) = cap(tmp_path, rows, segments_per_text=1)
    assert [row["segment_index"] for row in after if row["verdict"] == "accept"] == [0, 3, 4, 5]
    assert (summary.cap, summary.segments) == ("nearly the same text", 2)


def test_equal_audio_needs_the_signals_of_the_audio(tmp_path):
    """Shards without them cannot tell whether audio is equal, and say so."""
    frame = pl.LazyFrame(schema={name: kind for name, kind in SCHEMA.items() if name != "rms_dbfs"})
    with pytest.raises(BadInput, match="no column rms_dbfs"):
        apply_caps(frame, ["accept"], Caps(distinct_audio=True), tmp_path)


def test_select_writes_within_the_caps_and_says_what_they_cost(tmp_path, capsys):
    """The file holds at most the wanted seconds of each video, and the best half of each language after that."""
    write_shards(tmp_path / "results", sample_rows())
    (tmp_path / "sample.toml").write_text(RULES_TOML)
    out = tmp_path / "few.parquet"
    command = ["select", str(out), "--shards", str(tmp_path / "results"), "--rules", str(tmp_path / "sample.toml")]
    assert main([*command, "--hours-per-video", "0.005"]) == 0
    assert "more of a video" in capsys.readouterr().out
    seconds = {}
    for row in pq.read_table(out).select(["video_id", "duration_s"]).to_pylist():
        seconds[row["video_id"]] = seconds.get(row["video_id"], 0) + row["duration_s"]
    assert seconds
    assert all(0 < total <= 18 for total in seconds.values())
    assert main([*command, "--hours-per-video", "0.005", "--best-share", "0.5"]) == 0
    assert 0 < sum(pq.read_table(out)["duration_s"].to_pylist()) <= sum(seconds.values()) / 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.parquet", "results", "sample.toml"]

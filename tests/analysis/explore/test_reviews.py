"""Review decisions are kept in an append-only file, and become trusted clips."""

import json

import pytest

from tests.support.report_helpers import write_tar
from validation.analysis.explore.reviews import Review, Reviews
from validation.calibration.trusted_clips import load_trusted_clips
from validation.cli.main import main
from validation.errors import BadInput


def decide(segment_index, decision, video_id="v0", **values):
    segment = f"segments/{segment_index:06d}"
    return Review(video_id, segment_index, segment, decision, language="hi", text="stored", **values)


def test_the_last_decision_on_a_segment_counts_and_earlier_ones_stay_in_the_file(tmp_path):
    """A decision is never overwritten in the file."""
    path = tmp_path / "reviews.jsonl"
    reviews = Reviews(path)
    reviews.add(decide(1, "accept"))
    reviews.add(decide(1, "reject", note="ends early"))
    assert [json.loads(line)["decision"] for line in path.read_text().splitlines()] == ["accept", "reject"]
    again = Reviews(path)
    assert [(review.decision, review.note) for review in again.all()] == [("reject", "ends early")]
    assert again.get("v0", 1).at


def test_a_line_that_is_no_decision_is_refused_by_its_number(tmp_path):
    """A damaged file is named with its line, and is not written to."""
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"video_id": "v", "segment_index": 0, "segment": "s", "decision": "maybe"}\n')
    with pytest.raises(BadInput, match="line 1"):
        Reviews(path)


def test_accepted_and_corrected_segments_become_clips_that_calibrate_reads(tmp_path, monkeypatch, capsys):
    """A rejected segment without a corrected text gives no clip; a missing tar is named and the exit code is 1."""
    (tmp_path / "source").mkdir()
    write_tar(tmp_path / "source", "v0", 4)
    monkeypatch.setenv("VFLEET_SOURCE_URL", f"file://{tmp_path / 'source'}")
    reviews = Reviews(tmp_path / "reviews.jsonl")
    reviews.add(decide(0, "accept"))
    reviews.add(decide(1, "reject", corrected_text="what is said"))
    reviews.add(decide(2, "reject"))
    command = ["reviews", str(tmp_path / "clips"), "--reviews", str(reviews.path)]
    assert main(command) == 0
    clips = load_trusted_clips(tmp_path / "clips")
    assert [(clip.text, clip.language, len(clip.audio)) for clip in clips] == [
        ("stored", "hi", 8000),
        ("what is said", "hi", 8000),
    ]
    reviews.add(decide(0, "accept", video_id="gone"))
    assert main(command) == 1
    assert "gone/0 is left out: The audio cannot be read" in capsys.readouterr().out

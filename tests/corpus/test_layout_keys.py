"""What the records of an index say under which key, and what is refused because no key is understood."""

import io

import numpy as np
import pytest

from tests.support.corpus_samples import encode, make_tar
from tests.support.layout_helpers import AUDIO, faults, lay_out, lines, names, texts
from validation.corpus.inspect import inspect_tar
from validation.corpus.segment_refs import AudioSpan, BadLayout

TWO_FILES = {"a.flac": AUDIO, "b.flac": AUDIO}


@pytest.mark.parametrize(
    "row",
    [
        {"audio": {"path": "{}.flac", "sampling_rate": 16000}, "text": "x"},
        {"audio": {"path": "/cache/{}.flac", "bytes": None}, "text": "x"},
        {"path": "clips/{}.flac", "sentence": "x", "locale": "hi"},
        {"audio_path": "{}.flac", "transcription": "x"},
    ],
)
def test_records_of_hugging_face_and_common_voice_are_read(row):
    """Audio is an object with a path, or a path under one of the common names."""
    rows = [_fill(row, stem) for stem in "ab"]
    layout = lay_out({"metadata.jsonl": lines(*rows), **TWO_FILES})
    assert (names(layout), texts(layout), faults(layout)) == (["a", "b"], ["x", "x"], {})


def _fill(value, stem):
    if isinstance(value, dict):
        return {key: _fill(item, stem) for key, item in value.items()}
    return value.format(stem) if isinstance(value, str) else value


def test_index_without_a_known_key_for_the_transcript_is_refused():
    """It names the keys that were found, instead of a video whose segments all lack their transcript."""
    rows = [{"file_name": "a.flac", "utt": "x"}, {"file_name": "b.flac", "utt": "y"}]
    with pytest.raises(BadLayout, match=r"no transcript is found for any of the 2 records .*'file_name', 'utt'"):
        lay_out({"metadata.jsonl": lines(*rows), **TWO_FILES})
    rows[0]["text"] = "x"
    assert faults(lay_out({"metadata.jsonl": lines(*rows), **TWO_FILES})) == {"b": "no_transcript"}


def test_index_without_a_known_key_for_the_times_is_refused():
    """Its records are spans of one file, and none says which."""
    rows = [{"text": "x", "begin": 0, "finish": 1}, {"text": "y", "begin": 1, "finish": 2}]
    with pytest.raises(BadLayout, match=r"neither times nor audio files .*'text', 'begin', 'finish'"):
        lay_out({"segments.json": rows, "v.flac": AUDIO})


def test_an_index_that_is_understood_is_taken_before_one_that_is_not():
    """A list of chapters under a preferred name hides no transcript."""
    layout = lay_out(
        {"metadata.json": [{"title": "intro"}], "segments.json": [{"text": "x", "start": 0, "end": 1}], "v.flac": AUDIO}
    )
    assert texts(layout) == ["x"]


@pytest.mark.parametrize(("start", "end"), [("00:00:01.500", "00:01:02,5"), ("0:01.5", "1:02.500"), ("1.5", 62.5)])
def test_clock_times_are_read(start, end):
    """As subtitles write them, with a comma or a point."""
    (ref,) = lay_out({"segments.json": [{"text": "x", "start": start, "end": end}], "v.flac": AUDIO}).segments
    assert ref.audio == AudioSpan("v.flac", (1.5, 62.5))


@pytest.mark.parametrize("factor", [1000, 16000])
def test_tar_whose_times_all_lie_outside_its_audio_is_refused(factor):
    """Milliseconds or samples in place of seconds are a misread layout; one wrong time is a fault of its segment."""
    audio = encode(0.1 * np.ones(32000, np.float32))
    rows = [{"text": "x", "start": 0, "end": 1}, {"text": "y", "start": 1, "end": 2}]
    wrong = [{**row, "start": row["start"] * factor, "end": row["end"] * factor} for row in rows]
    assert "none of its 2 records has times, in seconds, inside its audio" in _inspect(wrong, audio).refusal
    one_wrong = _inspect([rows[0], wrong[1]], audio)
    assert [segment.fault is None for segment in one_wrong.segments] == [True, False]


def _inspect(rows, audio):
    return inspect_tar(io.BytesIO(make_tar({"segments.jsonl": lines(*rows), "v.flac": audio})), "v.tar")


def test_of_several_spans_of_one_file_only_the_first_may_omit_its_start():
    """A second one has the fault `bad_times`: it would be scored against the beginning of the file."""
    rows = [
        {"audio_filepath": "a.flac", "duration": 1.0, "text": "x"},
        {"audio_filepath": "a-sub1.flac", "offset": 1.0, "duration": 1.0, "text": "y"},
        {"audio_filepath": "a-sub2.flac", "offset": 2.0, "duration": 1.0, "text": "z"},
    ]
    layout = lay_out({"manifest.json": lines(*rows), "a.flac": AUDIO})
    assert layout.segments[0].audio == AudioSpan("a.flac", (0.0, 1.0))
    for row in rows[1:]:
        del row["offset"]
    assert set(faults(lay_out({"manifest.json": lines(*rows), "a.flac": AUDIO})).values()) == {"bad_times"}
    rows[0]["offset"], rows[2]["offset"] = 0.0, 2.0
    assert faults(lay_out({"manifest.json": lines(*rows), "a.flac": AUDIO})) == {"000001": "bad_times"}


def test_cut_of_several_tracks_is_refused_by_its_id():
    """Its supervisions are in its tracks: it would be left out without a word."""
    cuts = [
        {"id": "1", "duration": 1, "supervisions": [{"start": 0, "duration": 1, "text": "x"}]},
        {"id": "2", "tracks": [{"cut": {}, "offset": 0}], "type": "MixedCut"},
    ]
    with pytest.raises(BadLayout, match=r"cuts\.jsonl holds cut '2' of several tracks"):
        lay_out({"cuts.jsonl": lines(*cuts), "1.flac": AUDIO, "2.flac": AUDIO})

"""How records of NeMo, Lhotse and Whisper find their audio, whatever form its name has."""

import unicodedata

import pytest

from tests.support.layout_helpers import AUDIO, SLICES, faults, lay_out, lines, names, texts
from validation.corpus.segment_refs import AudioSpan, BadLayout


@pytest.mark.parametrize(
    "suffix", [".oga", ".mka", ".mp4", ".wma", ".aiff", ".aif", ".m4b", ".spx", ".OGA", ".mkv", ".amr", ".caf"]
)
def test_audio_has_many_suffixes(suffix):
    """The content selects the decoder, so any suffix of a container of sound is accepted."""
    assert names(lay_out({f"s/0{suffix}": AUDIO, "s/0.json": {"text": "x"}})) == ["s/0"]


def test_a_video_beside_its_own_sound_is_passed_over():
    """The sound is in both; the audio file is taken."""
    layout = lay_out({"v1.mp4": AUDIO, "v1.m4a": AUDIO, "v1.json": {"segments": SLICES}})
    assert {ref.audio.member for ref in layout.segments} == {"v1.m4a"}


@pytest.mark.parametrize(
    ("member", "written"),
    [
        ("audio/0.flac", "audio\\0.flac"),
        ("audio/0.flac", ".\\audio\\0.flac"),
        ("audio/0.flac", "./audio//0.flac"),
        ("audio\\0.flac", "audio/0.flac"),
        ("audio/0.flac", "C:\\data\\audio\\0.flac"),
        (unicodedata.normalize("NFD", "audio/café.flac"), unicodedata.normalize("NFC", "audio/café.flac")),
        (unicodedata.normalize("NFC", "audio/फ़िल्म.flac"), unicodedata.normalize("NFD", "audio/फ़िल्म.flac")),
        (unicodedata.normalize("NFD", "audio/é.flac"), "audio\\é.flac"),
        (unicodedata.normalize("NFD", "audio/é.flac"), "elsewhere/é.flac"),
    ],
)
def test_a_record_finds_its_audio_with_any_separator_and_form(member, written):
    """Windows writes backslashes, macOS stores names in NFD; the segment keeps the member's own name."""
    layout = lay_out({member: AUDIO, "b.wav": AUDIO, "metadata.json": [{"text": "x", "audio": written}]})
    assert [ref.audio for ref in layout.segments if ref.record.text] == [AudioSpan(member)]


def test_an_exact_name_comes_first():
    """Two members that differ only in their form are told apart by their exact names."""
    composed, decomposed = unicodedata.normalize("NFC", "é.wav"), unicodedata.normalize("NFD", "é.wav")
    rows = [{"text": "one", "audio": composed}, {"text": "two", "audio": decomposed}]
    layout = lay_out({composed: AUDIO, decomposed: AUDIO, "metadata.json": rows})
    assert {ref.record.text: ref.audio.member for ref in layout.segments} == {"one": composed, "two": decomposed}


def test_a_name_of_two_members_is_refused():
    """A record that fits two members equally well is given to neither."""
    files = {"a/b.wav": AUDIO, "a\\b.wav": AUDIO, "metadata.json": [{"text": "x", "audio": "./a/b.wav"}]}
    with pytest.raises(BadLayout, match=r"is the name of both 'a.*b\.wav' and 'a.*b\.wav'"):
        lay_out(files)


def test_a_pair_may_differ_in_its_unicode_form():
    """A transcript that was written on macOS finds its audio."""
    text, audio = unicodedata.normalize("NFD", "s/é.json"), unicodedata.normalize("NFC", "s/é.flac")
    layout = lay_out({audio: AUDIO, text: {"text": "x"}})
    assert (layout.kind, texts(layout), faults(layout)) == ("pairs", ["x"], {})


@pytest.mark.parametrize(
    "files",
    [
        {"metadata.json": [{"text": "x", "audio": "c/1.wav"}, {"text": "y", "audio": "c/2.wav"}]},
        {"cuts.jsonl": lines({"id": "c/1", "supervisions": [{"text": "x"}]})},
        {"manifest.json": lines({"text": "x", "audio_filepath": "c/1-sub1.wav", "offset": 1, "duration": 1})},
    ],
)
def test_records_of_which_none_finds_audio_are_a_bad_layout(files):
    """The names were misread: the error names a record's audio and a member, and no segment is rejected."""
    with pytest.raises(BadLayout, match=r"none of its \d records finds its audio: .* 'c/1.*holds 'a\.wav'"):
        lay_out({"a.wav": AUDIO, "b.wav": AUDIO, **files})


def test_control_characters_of_a_name_are_escaped():
    """Postgres cannot store a NUL, and a terminal obeys an escape: no message holds either."""
    with pytest.raises(BadLayout) as caught:
        lay_out({"a.wav": AUDIO, "b\x00\x1b[2Jx/metadata.json": b"{broken"})
    assert r"b\x00\x1b[2Jx/metadata.json" in str(caught.value)


def test_nemo_sub_entries_are_spans_of_one_file():
    """NeMo stores a file once, and calls its further entries ``-sub1``, ``-sub2`` and so on."""
    rows = [
        {"text": "one", "audio_filepath": "talk.flac", "offset": 0.0, "duration": 1.0},
        {"text": "two", "audio_filepath": "talk-sub1.flac", "offset": 1.0, "duration": 1.5},
        {"text": "own", "audio_filepath": "other.flac", "duration": 2.0},
    ]
    layout = lay_out({"talk.flac": AUDIO, "other.flac": AUDIO, "manifest.json": lines(*rows)})
    assert (layout.kind, texts(layout)) == ("sliced", ["one", "two", "own"])
    assert [ref.audio for ref in layout.segments] == [
        AudioSpan("talk.flac", (0.0, 1.0)),
        AudioSpan("talk.flac", (1.0, 2.5)),
        AudioSpan("other.flac"),
    ]


def test_a_single_nemo_sub_entry_is_a_span():
    """Its siblings may have been filtered out; the file is still more than this entry."""
    row = {"text": "two", "audio_filepath": "a/talk-sub12.flac", "offset": 1.0, "duration": 1.5}
    (ref,) = lay_out({"a/talk.flac": AUDIO, "manifest.json": lines(row)}).segments
    assert ref.audio == AudioSpan("a/talk.flac", (1.0, 2.5))


def test_a_member_that_is_called_sub_is_found_by_its_own_name():
    """The suffix is dropped only where no member has the whole name."""
    row = {"text": "x", "audio_filepath": "talk-sub1.flac"}
    (ref,) = lay_out({"talk-sub1.flac": AUDIO, "manifest.json": lines(row)}).segments
    assert ref.audio == AudioSpan("talk-sub1.flac")


def test_lhotse_ids_may_hold_slashes():
    """The id is the path of the cut's audio, in the tar or below a folder of its own."""
    ids = ["small/5118/seg_0", "small/5118/seg_1", "other/seg_9"]
    cuts = lines(*({"id": cut, "supervisions": [{"text": cut}]} for cut in ids))
    layout = lay_out(
        {"cuts.000000.jsonl": cuts, "rec/other/seg_9.flac": AUDIO, **{f"{cut}.flac": AUDIO for cut in ids[:2]}}
    )
    assert (layout.kind, faults(layout)) == ("shar", {})
    assert sorted(names(layout)) == sorted(ids)


def test_a_cut_that_is_longer_than_its_supervision_is_sliced():
    """One supervision of a long cut is scored against its own part of the cut."""
    cut = {"id": "c", "start": 100.0, "duration": 30.0, "supervisions": [{"text": "x", "start": 5.0, "duration": 2.0}]}
    (ref,) = lay_out({"cuts.jsonl": lines(cut), "c.flac": AUDIO}).segments
    assert ref.audio == AudioSpan("c.flac", (5.0, 7.0))


def whisper(text: str | None, *ends: float) -> dict[str, object]:
    """Build the JSON that Whisper writes, with one part per end."""
    starts = (0.0, *ends[:-1])
    parts = [
        {"id": n, "seek": 0, "start": start, "end": end, "text": f" part {n}", "tokens": [1, 2], "avg_logprob": -0.3}
        for n, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    return {**({} if text is None else {"text": text}), "segments": parts, "language": "hi"}


@pytest.mark.parametrize("text", [" part 0 part 1", None])
def test_whisper_json_beside_each_clip_is_its_transcript(text):
    """A clip is one segment, with Whisper's whole text or with the text of its parts."""
    files = {f"s/{n}.flac": AUDIO for n in range(2)} | {f"s/{n}.json": whisper(text, 1.5, 3.0) for n in range(2)}
    layout = lay_out(files)
    assert (layout.kind, names(layout), faults(layout)) == ("pairs", ["s/0", "s/1"], {})
    assert {text.strip() for text in texts(layout)} == {"part 0 part 1"}
    assert [ref.record.language for ref in layout.segments] == ["hi", "hi"]


def test_whisper_json_beside_one_clip_is_its_transcript():
    """A video of one segment is laid out as one of many."""
    layout = lay_out({"s/0.flac": AUDIO, "s/0.json": whisper(" all of it", 1.5, 3.0)})
    assert (layout.kind, names(layout), texts(layout)) == ("pairs", ["s/0"], [" all of it"])


def test_whisper_json_beside_long_files_slices_them():
    """A transcript of minutes is too long for a segment, so each of its parts is one."""
    files = {f"{n}.mp3": AUDIO for n in "ab"} | {f"{n}.json": whisper("long", 40.0, 80.0) for n in "ab"}
    layout = lay_out(files)
    assert names(layout) == ["a-000", "a-001", "b-000", "b-001"]
    assert layout.segments[1].audio == AudioSpan("a.mp3", (40.0, 80.0))
    assert {ref.record.language for ref in layout.segments} == {"hi"}


def test_whisper_json_beside_the_whole_video_slices_it():
    """The only audio of a tar with a long transcript in parts is the layout ``sliced``."""
    layout = lay_out({"v1.m4a": AUDIO, "v1.json": whisper("long", 40.0, 80.0)})
    assert (layout.kind, names(layout)) == ("sliced", ["0", "1"])


def test_an_index_may_lie_in_a_folder_with_a_backslash():
    """Windows writes ``meta\\manifest.jsonl``; its bare name makes it the index."""
    layout = lay_out({"a/b.flac": AUDIO, "meta\\manifest.jsonl": lines({"audio_filepath": "a\\b.flac", "text": "x"})})
    assert [(ref.audio, ref.record.text) for ref in layout.segments] == [(AudioSpan("a/b.flac"), "x")]


@pytest.mark.parametrize("text", ["", " y"])
def test_whispers_json_without_parts_is_a_transcript(text):
    """Of a silent clip Whisper writes an empty text and no segments: nothing is spoken, and nothing is missing."""
    files = {"1.wav": AUDIO, "1.json": {"text": "x"}, "2.wav": AUDIO, "2.json": {"text": text, "segments": []}}
    layout = lay_out(files)
    assert texts(layout) == ["x", text]
    assert faults(layout) == {}

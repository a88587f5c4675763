"""A tar's segments are found in every accepted layout, and what is missing is a fault of its segment."""

import gzip
import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.layout_helpers import AUDIO, LIMITS, SLICES, faults, lay_out, lines, make_cut, names, texts
from validation.corpus.layouts import NoSegments, read_layout
from validation.corpus.records import read_record
from validation.corpus.segment_refs import AudioSpan, BadLayout, TarListing, natural_sort_key
from validation.corpus.tar import Member, TarUnsafe


def test_the_default_layout_is_read_as_documented():
    """Pairs in a folder, the facts of the video beside it, every field where it belongs."""
    layout = lay_out(
        {
            "metadata.json": {"video_id": "v1", "language": "hi", "segment_count": 1},
            "segments/000000.flac": AUDIO,
            "segments/000000.json": {"start": 1.5, "end": 4, "text": "नमस्ते", "language": "mr", "speaker": "S1"},
        }
    )
    (ref,) = layout.segments
    assert (layout.kind, layout.language) == ("pairs", "hi")
    assert ref.name == "segments/000000"
    assert ref.audio == AudioSpan("segments/000000.flac")
    record = ref.record
    assert (record.text, record.language, record.start_s, record.end_s) == ("नमस्ते", "mr", 1.5, 4.0)
    assert record.speaker == "S1"


def test_a_txt_beside_the_audio_is_a_transcript():
    """Shrutilipi's layout; an empty file is an empty transcript."""
    layout = lay_out({"b/sent_1.wav": AUDIO, "b/sent_1.txt": b"one\n", "b/sent_2.wav": AUDIO, "b/sent_2.txt": b""})
    assert (layout.kind, texts(layout), faults(layout)) == ("pairs", ["one", ""], {})


def test_a_json_and_a_text_beside_the_same_audio_complete_each_other():
    """Labels come from the JSON, the text from the .txt."""
    layout = lay_out({"a.wav": AUDIO, "a.json": {"language": "ta"}, "a.txt": b"words"})
    assert (layout.segments[0].record.text, layout.segments[0].record.language) == ("words", "ta")


def test_dots_in_names_do_not_merge_segments():
    """Times in file names are common, and a first-dot rule would make one sample of two."""
    files = {
        f"seg_{at}.{kind}": AUDIO if kind == "flac" else {"text": at}
        for at in ("12.34", "12.56")
        for kind in ("flac", "json")
    }
    layout = lay_out(files)
    assert names(layout) == ["seg_12.34", "seg_12.56"]
    assert texts(layout) == ["12.34", "12.56"]


def test_compound_suffixes_are_paired_by_the_first_dot():
    """WebDataset's own rule, where it leaves no choice."""
    layout = lay_out({"7.audio.flac": AUDIO, "7.meta.json": {"language": "te"}, "7.words.txt": b"seven"})
    assert (names(layout), texts(layout)) == (["7.audio"], ["seven"])


def test_segments_are_ordered_by_number():
    """Segment 9 comes before segment 10, in whatever order the tar holds them."""
    files = {f"seg_{place}.{kind}": AUDIO if kind == "wav" else b"x" for place in range(12) for kind in ("wav", "txt")}
    assert names(lay_out(files)) == [f"seg_{place}" for place in range(12)]


@given(st.lists(st.text("a0179_/.", max_size=12)))
@settings(deadline=None)
def test_the_order_of_names_is_total(words):
    """Any names can be ordered, numbers of any length included, and equal ranks mean equal names."""
    ordered = sorted(words, key=natural_sort_key)
    assert all(natural_sort_key(a) < natural_sort_key(b) or a == b for a, b in itertools.pairwise(ordered))


def test_a_missing_or_broken_half_of_a_pair_is_a_fault_of_its_segment():
    """Audio without text, text without audio, and text that cannot be read each keep their row."""
    layout = lay_out(
        {
            "metadata.json": b"{broken, and not needed",
            "s/0.flac": AUDIO,
            "s/0.json": {"text": "fine"},
            "s/1.flac": AUDIO,
            "s/2.json": {"text": "words"},
            "s/3.flac": AUDIO,
            "s/3.json": b"{",
            "s/4.flac": AUDIO,
            "s/4.json": {"start": 1},
            "s/5.flac": AUDIO,
            "s/5.txt": b"\xff\xfe\xfd",
            "s/6.flac": AUDIO,
            "s/6.json": {"text": None},
            "s/readme.json": {"about": "nothing in particular"},
        }
    )
    assert faults(layout) == {
        "s/1": "no_transcript",
        "s/2": "no_audio",
        "s/3": "bad_transcript",
        "s/4": "no_transcript",
        "s/5": "bad_transcript",
        "s/6": "no_transcript",
    }
    assert names(layout) == [f"s/{place}" for place in range(7)]
    assert dict(zip(names(layout), texts(layout), strict=True))["s/2"] == "words"


def test_other_audio_beside_the_segments_folder_is_no_segment():
    """Audio outside the segments folder, other files and the hidden files of macOS are no segments."""
    layout = lay_out(
        {
            "audio.mp3": AUDIO,
            "s/0.flac": AUDIO,
            "s/0.txt": b"x",
            "s/._0.flac": AUDIO,
            "clip.mp4": b"",
            "s/notes.md": b"",
        }
    )
    assert names(layout) == ["s/0"]


INDEX_ROWS = [{"text": "two", "audio": "clips/b.wav"}, {"text": "one", "audio": "clips/a.wav", "start": 5, "end": 7}]


@pytest.mark.parametrize(
    "index",
    [
        {"metadata.json": INDEX_ROWS},
        {"metadata.json": {"language": "bn", "segments": INDEX_ROWS}},
        {"transcription.jsonl": lines(*INDEX_ROWS)},
        {"manifest.json": lines(*INDEX_ROWS)},
        {"metadata.json": {"video_id": "v1"}, "transcript.json": {"segments": INDEX_ROWS}},
        {"deep/segments.json": [{"text": "two", "audio": "../b.wav"}, {"text": "one", "audio": "clips/a.wav"}]},
        {"clips/manifest.jsonl": lines({"text": "two", "file": "b.wav"}, {"text": "one", "filename": "./a.wav"})},
        {"manifest.jsonl": lines({"text": "two", "wav": "/data/x/b.wav"}, {"text": "one", "audio_filepath": "a.wav"})},
    ],
)
def test_an_index_may_list_the_segments(index):
    """Under any accepted name, as list, object or lines, with paths from the tar or the index, or with bare names."""
    layout = lay_out({"clips/a.wav": AUDIO, "clips/b.wav": AUDIO, **index})
    assert (layout.kind, names(layout), texts(layout)) == ("indexed", ["clips/a", "clips/b"], ["one", "two"])
    assert [ref.audio for ref in layout.segments] == [AudioSpan("clips/a.wav"), AudioSpan("clips/b.wav")]


def test_index_records_and_audio_files_may_not_match():
    """A record without a file and a file without a record are a fault each."""
    rows = [{"text": "here", "audio": "a.wav"}, {"text": "gone", "audio": "b.wav"}, {"text": "nameless"}]
    layout = lay_out({"metadata.json": rows, "a.wav": AUDIO, "c.wav": AUDIO})
    assert names(layout) == ["000002", "a", "b", "c"]
    assert faults(layout) == {"000002": "no_audio", "b": "no_audio", "c": "no_transcript"}


@pytest.mark.parametrize(
    "files",
    [
        {"audio.mp3": AUDIO, "segments.json": SLICES},
        {"v1.m4a": AUDIO, "v1.json": {"segments": SLICES}},
        {"x/v1.m4a": AUDIO, "x/v1.jsonl": lines(*SLICES)},
        {"long.wav": AUDIO, "transcript.jsonl": lines(*[{**row, "audio_filepath": "long.wav"} for row in SLICES])},
        {"long.wav": AUDIO, "other/b.wav": AUDIO, "manifest.json": [{**row, "file": "long.wav"} for row in SLICES]},
    ],
)
def test_long_audio_is_sliced_by_its_index(files):
    """Records that name no audio, or several that name the same, are stretches of it."""
    layout = lay_out(files)
    audio = next(name for name in files if name.endswith((".mp3", ".m4a", "long.wav")))
    assert (layout.kind, names(layout), texts(layout)) == ("sliced", ["000000", "000001"], ["b", "a"])
    assert [ref.audio for ref in layout.segments] == [AudioSpan(audio, (2.5, 4.0)), AudioSpan(audio, (0.5, 2.5))]


def test_slices_are_named_by_their_ids_if_these_are_unique():
    """Otherwise they are named by their place in the index."""
    rows = [{**row, "id": place + 7} for place, row in enumerate(SLICES)]
    assert names(lay_out({"a.mp3": AUDIO, "segments.json": rows})) == ["7", "8"]
    twins = [{**row, "id": "same"} for row in SLICES]
    assert names(lay_out({"a.mp3": AUDIO, "segments.json": twins})) == ["000000", "000001"]


@pytest.mark.parametrize(
    "times", [{}, {"start": 1}, {"start": 3, "end": 3}, {"start": -1, "end": 2}, {"start": "x", "end": True}]
)
def test_a_slice_without_usable_times_is_a_fault(times):
    """A slice without usable times is never stretched to the whole audio."""
    layout = lay_out({"a.mp3": AUDIO, "segments.json": [{"text": "x", **times}, {"text": "y", "start": 0, "end": 1}]})
    assert faults(layout) == {"000000": "bad_times"}


CUTS = [
    make_cut("c-10", {"id": "s", "start": 0, "duration": 3, "text": "ten", "language": "gu", "speaker": "S"}),
    make_cut("c-9.5", {"start": 0.0, "duration": 1.0, "text": "nine"}, {"start": 1.0, "duration": 2.0, "text": "half"}),
    make_cut("c-8", {"text": "lost"}),
    make_cut("c-7"),
]


@pytest.mark.parametrize(
    "index", [{"cuts.000000.jsonl": lines(*CUTS)}, {"cuts.000000.jsonl.gz": gzip.compress(lines(*CUTS))}]
)
def test_lhotse_shar_is_read_by_its_cuts(index):
    """Each supervision is one segment; a recording's own JSON beside the audio is no transcript."""
    audio: dict[str, object] = {f"{cut_id}.flac": AUDIO for cut_id in ("c-10", "c-9.5", "c-7")}
    recordings = {f"{cut_id}.json": {"id": cut_id, "sampling_rate": 16000} for cut_id in ("c-10", "c-9.5", "c-7")}
    layout = lay_out({**index, **audio, **recordings})
    assert layout.kind == "shar"
    assert names(layout) == ["c-7", "c-8", "c-9.5-000", "c-9.5-001", "c-10"]
    assert texts(layout) == [None, "lost", "nine", "half", "ten"]
    assert [claim.audio for claim in layout.segments[2:]] == [
        AudioSpan("c-9.5.flac", (0.0, 1.0)),
        AudioSpan("c-9.5.flac", (1.0, 3.0)),
        AudioSpan("c-10.flac"),
    ]
    assert faults(layout) == {"c-7": "no_transcript", "c-8": "no_audio"}


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"metadata.json": {"video_id": "v1", "segment_count": 0}},
        {"metadata.json": {"segments": []}},
        {"metadata.json": {"segments": []}, "audio.mp3": AUDIO},
    ],
)
def test_a_tar_without_segments_says_so_in_two_words(files):
    """The queue shows the sentence as it is."""
    with pytest.raises(NoSegments) as caught:
        lay_out(files)
    assert str(caught.value) == "no segments"


@pytest.mark.parametrize(
    ("ignored_files", "sentence"),
    [
        (["thumbnail.jpg"], "no segments; ignored files: 1 .jpg"),
        (["a.xyz", "b.XYZ", "c.srt"], "no segments; ignored files: 2 .xyz, 1 .srt"),
        (["a.xyz", "s/._a.flac", "LICENCE"], "ignored files: 1 .xyz, 1 hidden, 1 without a suffix"),
    ],
)
def test_no_segments_counts_the_ignored_files(ignored_files, sentence):
    """A suffix that is not known may be the reason, so the message names it."""
    with pytest.raises(NoSegments) as caught:
        lay_out(dict.fromkeys(ignored_files, b"x"))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"a.wav": AUDIO, "b.wav": AUDIO}, "nothing transcribes its 2 audio files"),
        ({"v1.mp3": AUDIO, "v1.info.json": {"title": "no words"}}, "nothing transcribes its 1 audio files"),
        (
            {"a.wav": AUDIO, "b.wav": AUDIO, "segments.json": SLICES},
            "segments.json names no audio, and the tar holds 2",
        ),
        ({"a.wav": AUDIO, "segments.json": b"[{]"}, "segments.json cannot be read"),
        ({"a.wav": AUDIO, "cuts.jsonl.gz": b"no gzip"}, "cuts.jsonl.gz cannot be read"),
        ({"a.wav": AUDIO, "cuts.jsonl.gz": gzip.compress(b"{}")[:-4]}, "cuts.jsonl.gz cannot be read"),
        ({"segments.json": [{"text": "x", "audio": "a.wav"}]}, "lists 1 segments and holds no audio"),
        ({"a.wav": AUDIO, "a.flac": AUDIO, "a.txt": b"x"}, "2 segments are called 'a'"),
    ],
)
def test_any_other_layout_is_refused_with_its_reason(files, reason):
    """The error names the key and what is missing."""
    with pytest.raises(BadLayout, match=f"v1.tar: not an accepted tar layout: .*{reason}"):
        lay_out(files)


def test_compressed_cuts_are_unpacked_to_their_limit_only():
    """Cuts that unpack to more are refused, by name and limit."""
    with pytest.raises(BadLayout, match=r"cuts\.jsonl\.gz cannot be read: it unpacks to more than 1048576 bytes"):
        lay_out(
            {"a.wav": AUDIO, "cuts.jsonl.gz": gzip.compress(bytes(2 << 20))}, replace(LIMITS, document_bytes=1 << 20)
        )


@pytest.mark.parametrize(
    ("files", "limit", "reason"),
    [
        ({"a.txt": b"x" * 600, "b.txt": b"y" * 600}, {"text_bytes": 1000}, "the texts of the tar hold more than 1000"),
        ({"a.json": [[]] * 600}, {"json_items": 500}, "the JSON of the tar holds more than 500 items"),
        ({"cuts.jsonl": b"\n" * 600}, {"json_items": 500}, "the JSON of the tar holds more than 500 items"),
        ({"cuts.jsonl.gz": gzip.compress(b"\n" * 600)}, {"json_items": 500}, "holds more than 500 items"),
    ],
)
def test_texts_and_json_spend_one_budget(files, limit, reason):
    """What passes a limit of the tar is refused with the member and the limit named."""
    with pytest.raises(TarUnsafe, match=reason) as caught:
        lay_out({"a.wav": AUDIO, "b.wav": AUDIO, **files}, replace(LIMITS, **limit))
    assert caught.value.member in {*files, "a.wav", "b.wav"}


def test_a_document_is_paid_for_once():
    """An index that no other layout could use is parsed once, however many layouts look at it."""
    rows = [{"text": "x", "audio": "a.wav"}]
    limits = replace(LIMITS, json_items=3)
    assert lay_out({"a.wav": AUDIO, "metadata.json": rows}, limits).kind == "indexed"


@pytest.mark.parametrize("brackets", [b"[" * 101 + b"]" * 101, b'{"a":' * 101 + b"1" + b"}" * 101])
def test_json_nested_deeper_than_the_limit_is_unreadable(brackets):
    """The depth is counted before the file is parsed; brackets inside strings do not count."""
    layout = lay_out({"0.wav": AUDIO, "0.json": brackets, "1.wav": AUDIO, "1.json": {"text": "[" * 200}})
    assert faults(layout) == {"0": "bad_transcript"}
    assert "more than 100 levels" in layout.segments[0].audio.message


@pytest.mark.parametrize("payload", [b"[" * 100_000, b'{"text": "\\ud83d"}', b"\xff", b"", b"nonsense", b"1" * 5000])
def test_unusable_json_is_a_fault_of_its_segment(payload):
    """Deep nesting, a lone surrogate or an endless number costs one segment, not the video."""
    layout = lay_out({"0.wav": AUDIO, "0.json": payload, "1.wav": AUDIO, "1.txt": b"fine"})
    assert faults(layout) == {"0": "bad_transcript"}


@pytest.mark.parametrize("key", ["text", "transcript", "transcription", "pred_text", "normalized", "verbatim"])
def test_a_transcript_has_several_accepted_keys(key):
    """All that the sources of this corpus use."""
    assert read_record({key: "words"}).text == "words"


@pytest.mark.parametrize(
    "times", [{"start": 1, "end": 3}, {"start_time": 1, "end_time": 3}, {"offset": "1", "duration": 2}]
)
def test_times_have_several_accepted_keys(times):
    """Seconds, as numbers or as strings of numbers."""
    record = read_record(times)
    assert (record.start_s, record.end_s) == (1.0, 3.0)


def test_an_infinite_end_is_none():
    """Start and duration may be finite and their sum not."""
    assert read_record({"text": "a", "start": 1e308, "duration": 1e308}).end_s is None


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())


keys = st.sampled_from(["text", "start", "end", "duration", "offset", "lang", "speaker", "id", "file"])


@given(st.dictionaries(keys, values))
@settings(deadline=None)
def test_a_record_of_any_types_is_read(row):
    """Values of a wrong type are ignored; times are finite and not negative."""
    record = read_record(row)
    assert all(seconds is None or 0 <= seconds < float("inf") for seconds in (record.start_s, record.end_s))


words = st.sampled_from(["text", "segments", "audio", "start", "end", "id", "supervisions"])


documents = st.recursive(
    st.none() | st.floats(0, 9) | st.sampled_from(["a.wav", "b.flac", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
)


paths = st.sampled_from(
    ["a.wav", "b.flac", "s/a.mp3", "a.json", "b.txt", "s/a.json", "metadata.json", "segments.jsonl", "cuts.jsonl"]
)


@given(st.dictionaries(paths, st.binary(max_size=20) | documents))
@settings(deadline=None)
def test_any_files_give_segments_or_a_refusal(files):
    """Any documents give segments with distinct names, or one of two errors."""
    payloads = {name: file if isinstance(file, bytes) else json.dumps(file).encode() for name, file in files.items()}
    try:
        layout = read_layout(TarListing("v1.tar", [Member(name, payload) for name, payload in payloads.items()]))
    except (BadLayout, NoSegments):
        return
    assert layout.segments
    assert len(set(names(layout))) == len(layout.segments)

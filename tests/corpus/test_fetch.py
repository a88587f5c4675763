"""A video is fetched through the store, the tar and the decoders, with real speech."""

import json

import numpy as np
import pytest
from obstore.store import MemoryStore

from tests.support.corpus_samples import CLIPS, encode, encode_with_ffmpeg, make_tar, read_speech
from tests.support.scripted_http_server import respond, serve
from validation.corpus.budget import TarLimits
from validation.corpus.fetch import CorpusLimits, VideoTooLong, fetch_video
from validation.corpus.layouts import NoSegments
from validation.corpus.pack import PackedSegment, pack_video
from validation.corpus.tar import TarCorrupt, TarUnsafe
from validation.domain import DecodedVideo, Fault, Video
from validation.errors import Transient
from validation.settings import Settings
from validation.storage.errors import ObjectMissing
from validation.storage.store import open_store, put_if_absent

VIDEO = Video("v1", "en", segment_count=3)
HINDI = (CLIPS / "hi_ginti.flac").read_bytes()


def fetch(packed: bytes, video: Video = VIDEO, limits: CorpusLimits | None = None) -> DecodedVideo:
    store = MemoryStore()
    put_if_absent(store, "v1.tar", packed)
    return fetch_video(store, "v1.tar", video, limits)


def outcomes(video: DecodedVideo) -> list[str]:
    return [s.audio.kind if isinstance(s.audio, Fault) else "decoded" for s in video.segments]


def test_a_fetched_video_equals_the_packed_video():
    """Audio, texts, order and labels of the default layout are read as they were packed."""
    packed = pack_video(
        VIDEO,
        [
            PackedSegment(read_speech(), "he was not an ill disposed young man", start_s=0.0, end_s=2.99, speaker="A"),
            PackedSegment(HINDI, "एक दो तीन", language="hi"),
        ],
    )
    video = fetch(packed)
    first, second = (decoded.segment for decoded in video.segments)
    assert (video.video, video.layout, video.tar_bytes) == (VIDEO, "pairs", len(packed))
    assert (first.name, first.language, first.text) == ("segments/000000", "en", "he was not an ill disposed young man")
    assert (first.audio_member, video.segments[0].audio_offset_s) == ("segments/000000.flac", None)
    assert (first.video_id, first.start_s, first.end_s, first.speaker) == ("v1", 0.0, 2.99, "A")
    assert (second.name, second.language, second.text) == ("segments/000001", "hi", "एक दो तीन")
    np.testing.assert_array_equal(video.segments[0].audio, read_speech())
    np.testing.assert_array_equal(video.segments[1].audio, read_speech("hi_ginti"))


def test_packing_is_deterministic():
    """The same input makes the same bytes, so that a corpus can be made again and compared."""
    segments = [PackedSegment(read_speech(), "words")] * 2
    assert pack_video(VIDEO, segments) == pack_video(VIDEO, segments)


def test_a_segment_without_usable_audio_fails_alone():
    """A damaged, empty, short, not finite or cut-off file is a fault among the other segments."""
    spoiled = read_speech().copy()
    spoiled[0] = np.nan
    video = fetch(
        pack_video(
            VIDEO,
            [
                PackedSegment(HINDI, "fine"),
                PackedSegment(b"this is no audio", "damaged"),
                PackedSegment(b"", "empty"),
                PackedSegment(read_speech()[:100], "short"),
                PackedSegment(encode(spoiled, "WAV", "FLOAT"), "not finite"),
                PackedSegment(HINDI[:-2000], "cut off"),
                PackedSegment(HINDI, "fine too"),
            ],
        )
    )
    assert outcomes(video) == [
        "decoded",
        "undecodable",
        "too_short",
        "too_short",
        "not_finite",
        "undecodable",
        "decoded",
    ]
    assert [s.segment.text for s in video.segments][1] == "damaged"


def test_audio_formats_may_be_mixed_in_one_tar():
    """The content of a file selects its decoder, not its suffix."""
    speech = read_speech()
    sounds = {
        "a.flac": encode(speech),
        "b.wav": encode(speech, "WAV"),
        "c.mp3": encode(speech, "MP3"),
        "d.m4a": encode_with_ffmpeg(speech, "ipod", "aac"),
        "e.wav": encode(speech, "OGG", "OPUS"),
    }
    video = fetch(make_tar({**sounds, **{f"{name[0]}.txt": b"words" for name in sounds}}))
    assert outcomes(video) == ["decoded"] * 5


def test_long_audio_is_sliced_to_the_sample():
    """Every slice is a span of the audio, to the sample; a span with bad times fails alone."""
    speech = read_speech("en_librivox_0870")
    rows = [
        {"text": "first", "start": 0, "end": 2},
        {"text": "second", "start": 2, "end": 3.5},
        {"text": "beyond", "start": 60, "end": 62},
        {"text": "blink", "start": 1, "end": 1.01},
    ]
    video = fetch(make_tar({"audio.flac": encode(speech), "segments.json": rows}))
    assert (video.layout, outcomes(video)) == ("sliced", ["decoded", "decoded", "bad_times", "too_short"])
    assert [each.audio_offset_s for each in video.segments[:2]] == [each.segment.start_s for each in video.segments[:2]]
    assert len({each.segment.audio_member for each in video.segments[:2]}) == 1
    np.testing.assert_array_equal(video.segments[0].audio, speech[:32_000])
    np.testing.assert_array_equal(video.segments[1].audio, speech[32_000:56_000])
    assert video.audio_bytes == 4 * 56_000


def length_of(record: dict[str, object], speech: np.ndarray | None = None) -> tuple[str | float, float | None]:
    """Fetch one segment of 2.99 s with this record: its outcome or length in s, and its length difference."""
    audio = encode(read_speech() if speech is None else speech)
    (segment,) = fetch(make_tar({"s/0.flac": audio, "s/0.json": {"text": "x", **record}})).segments
    length = segment.audio.kind if isinstance(segment.audio, Fault) else round(len(segment.audio) / 16_000, 2)
    return length, segment.length_difference_s and round(segment.length_difference_s, 2)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({}, (2.99, None)),
        ({"start": 100, "end": 103}, (2.99, -0.01)),
        ({"duration": 3.0}, (2.99, -0.01)),
        ({"start": 100, "end": 110}, (2.99, -7.01)),
        ({"duration": 10}, (2.99, -7.01)),
        ({"start": 100, "end": 102}, (2.99, 0.99)),
        ({"start": 100, "end": 103, "duration": 2.5}, (2.99, 0.49)),
        ({"start": 100, "end": 100}, (2.99, None)),
        ({"duration": 0}, (2.99, None)),
    ],
)
def test_the_decoded_length_is_compared_with_the_record(record, expected):
    """With its duration, else with its times in the video; only this shows that a live recording ended early."""
    assert length_of(record) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"offset": 0.5, "duration": 1.0}, (1.0, 0.0)),
        ({"duration": 1.0}, (1.0, 0.0)),
        ({"start": 0.5, "duration": 1.0}, ("bad_times", 1.99)),
        ({"offset": 2.5, "duration": 1.0}, ("bad_times", None)),
    ],
)
def test_a_file_much_longer_than_its_record_is_never_scored_whole(record, expected):
    """If the record says which part is meant, the file is sliced, and else it is a fault."""
    assert length_of(record) == expected


def test_a_place_in_the_video_tells_a_whole_video_from_a_clip():
    """A record of two seconds beside minutes of audio is a part of it, and nothing says which."""
    minutes = np.tile(read_speech(), 20)
    assert length_of({"start": 10, "end": 12}, minutes) == ("bad_times", 57.8)


def test_lhotse_supervisions_shorter_than_their_audio_are_sliced():
    """The start of a supervision is a place in the audio of its cut."""
    cut = {"id": "a/c", "supervisions": [{"text": "x", "start": 0.5, "duration": 1.0}]}
    (segment,) = fetch(make_tar({"cuts.jsonl": json.dumps(cut).encode(), "a/c.flac": encode(read_speech())})).segments
    np.testing.assert_array_equal(segment.audio, read_speech()[8000:24_000])


def test_the_language_of_a_segment_falls_back_to_the_queue_and_the_tar():
    """The segment's label, else the queue's, else the tar's own."""
    tar = make_tar(
        {
            "metadata.json": {"language": "bn"},
            "0.flac": HINDI,
            "0.json": {"text": "a", "lang": "hi"},
            "1.flac": HINDI,
            "1.txt": b"b",
        }
    )
    assert [s.segment.language for s in fetch(tar).segments] == ["hi", "en"]
    assert [s.segment.language for s in fetch(tar, Video("v1", None, None)).segments] == ["hi", "bn"]


def test_segment_names_are_unique_within_a_video_only():
    """Two videos may use the same segment names; with the video id they differ."""
    store = MemoryStore()
    fetched = []
    for video_id in ("v1", "v2"):
        video = Video(video_id, "hi", 1)
        put_if_absent(store, f"{video_id}.tar", pack_video(video, [PackedSegment(HINDI, video_id)]))
        fetched.append(fetch_video(store, f"{video_id}.tar", video))
    ids = {(s.segment.video_id, s.segment.name): s.segment.text for video in fetched for s in video.segments}
    assert ids == {("v1", "segments/000000"): "v1", ("v2", "segments/000000"): "v2"}


def test_a_segment_count_that_differs_from_the_tar_is_no_error():
    """The tar decides; both counts are in the result."""
    video = fetch(pack_video(VIDEO, [PackedSegment(HINDI, "only one")]))
    assert (video.video.segment_count, len(video.segments)) == (3, 1)


@pytest.mark.parametrize("kept", [0, 1, 511, 512, 1024, 5000, -10240, -513])
def test_a_truncated_tar_fails_its_video(kept):
    """None of its segments is kept, not even those that arrived whole."""
    packed = pack_video(VIDEO, [PackedSegment(HINDI, "a"), PackedSegment(HINDI, "b")]).rstrip(b"\0")
    whole = packed.ljust(-len(packed) % 512 + len(packed), b"\0") + bytes(1024)
    with pytest.raises(TarCorrupt, match=r"v1\.tar"):
        fetch(whole[:kept])


def test_a_tar_without_segments_fails_its_video():
    """The message is the one that the queue shows."""
    for packed in (make_tar({}), pack_video(VIDEO, [])):
        with pytest.raises(NoSegments, match=r"^no segments$"):
            fetch(packed)


def test_a_missing_object_fails_its_video():
    """Permanent: trying again cannot help."""
    with pytest.raises(ObjectMissing, match=r"v1\.tar"):
        fetch_video(MemoryStore(), "v1.tar", VIDEO)


def test_limits_of_members_segment_and_video_are_enforced():
    """Each limit has an error or a fault of its own."""
    packed = pack_video(VIDEO, [PackedSegment(read_speech(), "2.99 s")] * 4)
    with pytest.raises(TarUnsafe, match="members"):
        fetch(packed, limits=CorpusLimits(tar=TarLimits(members=2)))
    assert outcomes(fetch(packed, limits=CorpusLimits(segment_s=2.0))) == ["too_long"] * 4
    with pytest.raises(VideoTooLong, match=r"v1\.tar: its segments hold more than 0\.0025 h"):
        fetch(packed, limits=CorpusLimits(video_s=9.0))


def test_overlapping_slices_cannot_exceed_the_video_limit():
    """A small index that lists the same span a thousand times is refused."""
    rows = [{"text": "all of it", "start": 0, "end": 2.9}] * 1000
    with pytest.raises(VideoTooLong):
        fetch(make_tar({"a.flac": encode(read_speech()), "segments.json": rows}), limits=CorpusLimits(video_s=60))


def test_a_lost_connection_is_transient_and_a_broken_tar_is_not(object_store):
    """Missing bytes are retried if the connection broke, and fail the video if the stored object lacks them."""
    packed = pack_video(VIDEO, [PackedSegment(HINDI, "a")])
    settings = Settings(s3_access_key_id="key", s3_secret_access_key="secret")
    with serve(respond(200, packed[:20_000], content_length=len(packed))) as script, pytest.raises(Transient):
        fetch_video(
            open_store("s3://bucket", settings.model_copy(update={"s3_endpoint_url": script.url})), "v1.tar", VIDEO
        )
    object_store.create_bucket("broken-tars")
    real = settings.model_copy(update={"s3_endpoint_url": object_store.endpoint_url})
    store = open_store("s3://broken-tars", real)
    put_if_absent(store, "v1.tar", packed[:20_000])
    with pytest.raises(TarCorrupt):
        fetch_video(store, "v1.tar", VIDEO)
    put_if_absent(store, "v2.tar", packed)
    assert outcomes(fetch_video(store, "v2.tar", VIDEO)) == ["decoded"]


def test_fetching_writes_nothing_to_the_disk(tmp_path, monkeypatch):
    """Neither the temporary folder nor the working folder gets a file."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fetch(pack_video(VIDEO, [PackedSegment(HINDI, "a")]))
    assert list(tmp_path.iterdir()) == []

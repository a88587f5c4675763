"""A small tar that would cost gigabytes or minutes is refused, with the member and the limit."""

import gzip
import io
import tarfile

import pytest

from tests.support.corpus_samples import encode, make_tar, read_speech
from tests.support.layout_helpers import lay_out, lines, make_cut
from validation.corpus.audio import AudioDecodeError
from validation.corpus.budget import ReadBudget, TarLimits, TimeLimit
from validation.corpus.fetch import CorpusLimits, decode_layout
from validation.corpus.inspect import inspect_tar
from validation.corpus.layouts import read_layout
from validation.corpus.paths import to_nfc
from validation.corpus.segment_refs import read_listing
from validation.corpus.tar import TarUnsafe, read_members
from validation.domain import Video

pytestmark = pytest.mark.attack

CLIP = encode(read_speech("en_hello_world")[:4000])
ROW = {"text": "x", "start": 0, "end": 0.2}
MARKS = "a" + "\u0301\u0327" * 50_000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "cuts.jsonl.gz",
            gzip.compress(b'{"supervisions": []}\n' * 60_000),
            "lists more than 50000 segments",
        ),
        ("cuts.jsonl", lines(make_cut("a", *[{}] * 60_000)), "lists more than 50000 segments"),
        ("metadata.json", lines([ROW] * 60_000), "lists more than 50000 segments"),
        ("a.json", lines({"text": "x", "segments": [ROW] * 60_000}), "lists more than 50000 segments"),
        ("cuts.jsonl.gz", gzip.compress(b"\n" * 3_100_000), "holds more than 3000000 items"),
        ("a.json", b"[" * 3_100_000, "holds more than 3000000 items"),
    ],
)
def test_a_text_that_lists_too_much_is_refused(name, content, reason):
    """Records and JSON values cost memory long before their bytes do."""
    with pytest.raises(TarUnsafe, match=f"member '{name}' is refused: .*{reason}"):
        lay_out({"a.flac": CLIP, name: content})


def empty_members() -> bytes:
    return gzip.compress(b"") * 50_000


def test_a_text_of_empty_gzip_members_ends_with_the_time():
    """They unpack to nothing, so neither bytes nor items bound them."""
    with pytest.raises(TarUnsafe, match=r"more than 0\.01 s of processor time"):
        lay_out({"a.flac": CLIP, "cuts.jsonl.gz": empty_members()}, TarLimits(cpu_s=0.01))


def test_a_tar_of_empty_gzip_members_ends_with_the_time():
    """The same around the tar."""
    stream = io.BytesIO(empty_members() + gzip.compress(make_tar({"a.flac": CLIP})))
    with pytest.raises(TarUnsafe, match=r"more than 0\.01 s of processor time"):
        list(read_members(stream, "v1.tar", ReadBudget(TarLimits(cpu_s=0.01))))


def test_a_name_longer_than_any_path_is_refused():
    """An extended header holds a name of a megabyte, and each name is normalised and compared several times."""
    packed = make_tar({"a/" * 3000 + "b.flac": CLIP}, style=tarfile.PAX_FORMAT)
    with pytest.raises(TarUnsafe, match="its name has 6006 characters, more than 4096"):
        read_listing(io.BytesIO(packed), "v1.tar", TarLimits())


def test_a_record_with_an_endless_name_finds_no_audio():
    """Its name is cut, because no member can have it."""
    layout = lay_out(
        {"a.flac": CLIP, "metadata.json": [ROW | {"audio": "a.flac"}, {"audio": "b/" * 200_000, "text": "y"}]}
    )
    assert [ref.record.text for ref in layout.segments if ref.name == "a"] == ["x"]
    assert max(len(ref.name) for ref in layout.segments) < 5000


@pytest.mark.parametrize(
    ("text", "fault"), [(MARKS, "combining marks in a row"), ("x" * 300_000, "has 300000 characters")]
)
def test_a_text_that_no_one_can_have_spoken_is_a_fault(text, fault):
    """Normalising many combining marks takes quadratic time, in every later step."""
    (ref,) = lay_out({"a.flac": CLIP, "a.json": {"text": text}}).segments
    assert (ref.audio.kind, ref.record.text) == ("bad_transcript", None)
    assert fault in ref.audio.message


def test_names_of_many_combining_marks_are_compared_as_they_are():
    """They are not normalised: a few kilobytes of names would take minutes."""
    name = "e\u0301" + "\u0301\u0327" * 900 + ".flac"
    assert to_nfc(name) == name
    assert to_nfc("e\u0301.flac") == "\xe9.flac"


def test_decoding_ends_with_the_time_of_the_tar():
    """A thousand files that hold an hour of silence each, or that turn out damaged at their end, cost time too."""

    def slow(*_: object) -> None:
        nonlocal now_s
        now_s += 700.0
        raise AudioDecodeError("too_long", "the file holds more than 3600 s")

    def clock() -> float:
        return now_s

    now_s = 0.0
    packed = make_tar({f"{place}.{kind}": b"x" for place in range(9) for kind in ("flac", "txt")})
    layout = read_layout(read_listing(io.BytesIO(packed), "v1.tar", TarLimits()))
    with pytest.raises(TarUnsafe, match=r"member '2' is refused: .* took more than 1800 s to decode"):
        decode_layout(
            "v1.tar", layout, Video("v1", None, None), CorpusLimits(), slow, time_limit=TimeLimit(1800, clock, clock)
        )
    assert now_s == 2100.0


@pytest.mark.parametrize("rate", [1, 0xFFFFFFFF])
def test_an_impossible_sample_rate_is_undecodable(rate):
    """A few thousand samples at 1 Hz would be resampled to gigabytes."""
    wav = bytearray(encode(read_speech("en_hello_world")[:4000], "WAV"))
    wav[24:28], wav[28:32] = rate.to_bytes(4, "little"), (2 * rate & 0xFFFFFFFF).to_bytes(4, "little")
    found = inspect_tar(io.BytesIO(make_tar({"a.wav": bytes(wav), "a.txt": b"x"})), "v1.tar")
    assert found.segments[0].fault.startswith("undecodable")


def test_the_processor_time_is_read_only_when_it_can_exceed_the_limit():
    """Reading it costs a system call per member, and a thread uses no more processor time than wall time."""
    cpu_s, wall_s, reads = 0.0, 0.0, 0

    def read_cpu() -> float:
        nonlocal reads
        reads += 1
        return cpu_s

    limit = TimeLimit(10, read_cpu, lambda: wall_s)
    for wall_s, cpu_s, exceeded in [(9.9, 9.9, False), (10.1, 4.0, False), (16.0, 9.9, False), (16.2, 10.1, True)]:  # noqa: B007
        assert limit.is_exceeded() is exceeded
    assert reads == 3

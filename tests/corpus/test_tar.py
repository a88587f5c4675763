"""A tar is read whole, or refused by name."""

import gzip
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.corpus_samples import make_tar
from validation.corpus.budget import ReadBudget, TarLimits
from validation.corpus.tar import Member, TarCorrupt, TarUnsafe, read_members
from validation.errors import Permanent

FILES = {"metadata.json": b"{}", "segments/000000.flac": bytes(range(256)), "segments/000000.json": b'{"text": "a"}'}
TAR = make_tar(FILES)
END_OF_FILES = 2 * 512 * len(FILES)
LIMITS = TarLimits()
STYLES = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]

names = st.lists(st.text("abcdé_", min_size=1, max_size=80), min_size=1, max_size=3).map("/".join)
tars = st.builds(
    lambda files, style: make_tar(files, style=style),
    st.dictionaries(names, st.binary(max_size=1500), min_size=1, max_size=4),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)


def read(packed: bytes, limits: TarLimits = LIMITS) -> list[Member]:
    return list(read_members(io.BytesIO(packed), "v1.tar", ReadBudget(limits)))


def with_member(name: str = "bad", **fields: object) -> bytes:
    """Make a tar of a harmless file and of a header with nothing behind it."""
    header = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(header, field, value)
    return make_tar({"ok.json": b"{}"})[:1024] + header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


class CountingStream(io.RawIOBase):
    """A stream that counts the bytes read from it."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._source, self.read_bytes = io.BytesIO(payload), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        count = self._source.readinto(buffer)
        self.read_bytes += count
        return count


def test_files_are_yielded_in_the_order_of_the_tar():
    """Names and bytes are those that were packed, in a plain or a gzip tar."""
    for packed in (TAR, gzip.compress(TAR)):
        assert [(member.name, member.payload) for member in read(packed)] == list(FILES.items())


def test_a_tar_is_read_as_a_stream():
    """The first file is yielded before the second megabyte is read."""
    stream = CountingStream(make_tar({f"{place}.flac": bytes(1 << 20) for place in range(8)}))
    members = read_members(stream, "v1.tar", ReadBudget(LIMITS))
    next(members)
    assert stream.read_bytes < 2 << 20


def test_a_tar_cut_before_its_end_mark_is_refused_at_every_byte():
    """A cut tar is never read as a shorter one, not even if it is cut between two members."""
    for length in range(END_OF_FILES + 512):
        with pytest.raises(TarCorrupt):
            read(TAR[:length])
    assert read(TAR[: END_OF_FILES + 512]) == read(TAR)


@given(tars, st.data())
def test_any_tar_cut_anywhere_is_refused_or_whole(packed, data):
    """With long names, empty files and headers of every style, a cut tar is never read as a tar of fewer files."""
    try:
        whole = read(packed)
    except TarUnsafe:  # such as a name that is another one's folder: nothing is read either way
        return
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    try:
        left = read(cut)
    except TarCorrupt:
        return
    assert left == whole


@given(st.integers(0, len(gzip.compress(TAR, mtime=0)) - 1))
def test_a_compressed_tar_cut_anywhere_is_refused(length):
    """Even if every file has arrived, the gzip checksum must be there."""
    with pytest.raises(TarCorrupt):
        read(gzip.compress(TAR, mtime=0)[:length])


@given(tars, st.data())
def test_damage_raises_one_of_our_errors_or_changes_no_count(packed, data):
    """Whatever byte is changed, only our errors leave the reader, and damage never shortens the tar."""
    place = data.draw(st.integers(0, len(packed) - 1))
    damaged = bytearray(packed)
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        count = len(read(bytes(damaged)))
    except Permanent:
        return
    assert count == len(read(packed))


@given(st.binary(max_size=3000), st.booleans())
def test_random_bytes_are_refused_as_corrupt(noise, compress):
    """Random bytes, plain or in gzip, raise ``TarCorrupt`` and no other error."""
    with pytest.raises(TarCorrupt):
        read(gzip.compress(b"x" + noise) if compress else b"x" + noise)


def test_a_damaged_header_is_not_the_end_of_the_tar():
    """If the second header is damaged, the error names the first member."""
    damaged = bytearray(TAR)
    damaged[1024 + 10] ^= 0xFF
    with pytest.raises(TarCorrupt, match=r"v1.tar: the tar is broken in or after member 'metadata.json'"):
        read(bytes(damaged))


def test_data_after_the_end_mark_is_refused():
    """Two concatenated tars are not read as the first one."""
    with pytest.raises(TarCorrupt, match="more than padding follows"):
        read(TAR + TAR)


def test_a_gzip_of_several_members_is_read_to_its_end():
    """Parallel compressors write such files; a reader that stops after the first member would lose the rest."""
    assert read(gzip.compress(TAR[:700]) + gzip.compress(TAR[700:])) == read(TAR)


def test_a_volume_label_is_skipped():
    """`tar --label` writes one before the first member."""
    label = tarfile.TarInfo("backup of 2024")
    label.type = b"V"
    assert read(label.tobuf(tarfile.GNU_FORMAT) + TAR) == read(TAR)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a symbolic link"),
        ({"type": tarfile.LNKTYPE, "linkname": "ok.json"}, "a hard link"),
        ({"type": tarfile.CHRTYPE}, "a character device"),
        ({"type": tarfile.BLKTYPE}, "a block device"),
        ({"type": tarfile.FIFOTYPE}, "a fifo"),
        ({"type": tarfile.GNUTYPE_SPARSE}, "a sparse file"),
        ({"type": b"Z"}, "its type is b'Z'"),
        ({"name": "/etc/cron.d/bad"}, "leads outside"),
        ({"name": "a/../../bad"}, "leads outside"),
        ({"name": "../bad", "type": tarfile.DIRTYPE}, "leads outside"),
        ({"name": "ok.json"}, "a member of this name came before"),
        ({"name": "./ok.json"}, "a member of this name came before"),
        ({"size": LIMITS.member_bytes + 1}, "more than 1610612736"),
    ],
)
def test_unsafe_members_are_refused_by_name(member, reason):
    """For links, devices, outside paths, duplicates and huge members the error names the key and the member."""
    with pytest.raises(TarUnsafe, match=reason) as caught:
        read(with_member(**{"name": "bad", **member}))
    assert caught.value.key == "v1.tar"
    assert caught.value.member == member.get("name", "bad")
    assert "v1.tar" in str(caught.value)
    assert caught.value.member in str(caught.value)


def test_a_sparse_file_of_an_extended_header_is_refused():
    """A few bytes that expand to terabytes of zeros are never expanded."""
    header = tarfile.TarInfo("bad")
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 42)}
    header.size = 512
    packed = header.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n0\n".ljust(512, b"\0") + bytes(1024)
    with pytest.raises(TarUnsafe, match="a sparse file"):
        read(packed)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_extended_header_is_refused_unread(kind):
    """``tarfile`` would read it into memory before it returns a member."""
    with pytest.raises(TarUnsafe, match="a header of 2000000 bytes"):
        read(with_member(type=kind, size=2_000_000))


def test_endless_extended_headers_are_refused():
    """Extended headers that are only followed by further ones raise an error, not a crash."""
    header = tarfile.TarInfo("h")
    header.type, header.size = tarfile.XHDTYPE, 0
    with pytest.raises(TarCorrupt):
        read(header.tobuf() * 5000 + bytes(1024))


def test_a_negative_size_is_refused():
    """A reader that used it would seek backwards."""
    header = bytearray(tarfile.TarInfo("bad").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 12
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    with pytest.raises(TarCorrupt, match="claims -1 bytes"):
        read(bytes(header) + bytes(1024))


def test_more_members_than_the_limit_are_refused():
    """Folders count as members, because each costs memory."""
    assert len(read(TAR, TarLimits(members=3))) == 3
    with pytest.raises(TarUnsafe, match="it is one more than 2 members"):
        read(TAR, TarLimits(members=2))


def test_more_bytes_than_the_limit_are_refused():
    """The limit counts all bytes, also those of headers and of skipped files."""
    with pytest.raises(TarUnsafe, match="holds more than 2048 bytes"):
        read(TAR, TarLimits(total_bytes=2048))


def test_a_gzip_bomb_is_refused_before_it_is_unpacked():
    """Only the first megabytes of it are unpacked."""
    with pytest.raises(TarUnsafe, match=r"member 'zeros.wav' is refused: it unpacks \d+ to 1, more than 100 to 1"):
        read(gzip.compress(make_tar({"zeros.wav": bytes(32 << 20)})))


def test_a_name_that_is_not_utf8_is_escaped():
    """Invalid bytes become ``\\xNN``, because a name that UTF-8 cannot encode would fail the whole shard."""
    packed = bytearray(with_member("caf_.flac"))
    packed[1024 + 3] = 0xE9
    packed[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(packed[1024:1172] + b" " * 8 + packed[1180:1536])
    assert read(bytes(packed))[-1].name == r"caf\xe9.flac"


def test_unwanted_files_are_skipped_but_checked():
    """Their payload is not read, and their paths must lead inside the tar."""
    kept = list(read_members(io.BytesIO(TAR), "v1.tar", ReadBudget(LIMITS), keep=lambda name: name.endswith(".flac")))
    assert [member.name for member in kept] == ["segments/000000.flac"]
    with pytest.raises(TarUnsafe):
        list(read_members(io.BytesIO(with_member("../x.exe")), "v1.tar", ReadBudget(LIMITS), keep=lambda _: False))

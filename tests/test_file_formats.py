"""What an object is that should be a tar."""

import bz2
import gzip
import io
import lzma
import zipfile

import pytest

from tests.support.corpus_samples import make_tar
from validation.corpus.budget import ReadBudget, TarLimits
from validation.corpus.tar import NotTar, TarCorrupt, check_first_header, read_members

TAR = make_tar({"a.json": b"{}"})
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
S3_ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'


def zipped() -> bytes:
    with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
        archive.writestr("a.json", "{}")
    return packed.getvalue()


OTHERS = {
    "a zip archive": zipped(),
    "an empty zip archive": b"PK\x05\x06" + bytes(18),
    "a bzip2 file": bz2.compress(TAR),
    "an xz file": lzma.compress(TAR),
    "an LZMA file": lzma.compress(TAR, lzma.FORMAT_ALONE),
    "a Zstandard file": b"\x28\xb5\x2f\xfd" + bytes(range(256)),
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c" + bytes(600),
    "a Parquet file": b"PAR1" + bytes(900),
    "a WAV file": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(900),
    "an MP4 file": b"\0\0\0\x20ftypM4A " + bytes(900),
    "a Git LFS pointer": POINTER,
    "an HTML page": b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>",
    "an error of an object store in XML": S3_ERROR,
    "an XML document": b'<?xml version="1.0"?>\n<feed/>' + b" " * 900,
    "a JSON document": b'{"message": "Forbidden"}',
    "a text file": "Zugriff verweigert \u00e4".encode() * 90,
    "empty (0 bytes)": b"",
    "a gzip file that holds a gzip file": gzip.compress(gzip.compress(TAR)),
    "a gzip file that holds an HTML page": gzip.compress(b"<html><body>403</body></html>"),
    "a gzip file that holds nothing": gzip.compress(b""),
}


@pytest.mark.parametrize("name", OTHERS)
def test_object_of_another_format_is_named(name):
    """Before anything of it is read, whether the whole tar or its first header is asked for."""
    says = f"v1.tar is {name}, not a tar: a video is a plain or gzip-compressed tar"
    for read in (lambda *args: list(read_members(*args)), check_first_header):
        with pytest.raises(NotTar) as refusal:
            read(io.BytesIO(OTHERS[name]), "v1.tar", ReadBudget(TarLimits()))
        assert str(refusal.value) == says


@pytest.mark.parametrize("damage", [TAR[:300], b"\x01" + TAR[1:], TAR[:1024], bytes(range(256)) * 4])
def test_damaged_tar_is_no_other_format(damage):
    """A tar with a damaged or cut header is a broken tar, and so are bytes that no format begins with."""
    with pytest.raises(TarCorrupt) as refusal:
        list(read_members(io.BytesIO(damage), "v1.tar", ReadBudget(TarLimits())))
    assert not isinstance(refusal.value, NotTar)


def test_tar_whose_first_name_looks_like_another_format_is_read():
    """Only an object without a tar's first header is asked what else it is."""
    (member,) = read_members(io.BytesIO(make_tar({"PK\x03.json": b"{}"})), "v1.tar", ReadBudget(TarLimits()))
    assert member.payload == b"{}"

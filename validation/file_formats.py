"""Name the format of a file by its first bytes, for the error message about a file of an unexpected format."""

import re
from collections.abc import Sequence

SNIFFED_BYTES = 512
"""Number of bytes at the start of a file from which the functions here recognise its format."""

_MAGIC: Sequence[tuple[bytes, str]] = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\x04\x22\x4d\x18", "an LZ4 file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x1f\x9d", "a file of compress (.Z)"),
    (b"\xff\x06\x00\x00sNaPpY", "a Snappy file"),
    (b"LZIP", "an lzip file"),
    (b"\x5d\x00\x00", "an LZMA file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"!<arch>\n", "an ar archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"070701", "a cpio archive"),
    (b"070702", "a cpio archive"),
    (b"070707", "a cpio archive"),
    (b"hsqs", "a SquashFS image"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\xff\xff\xff\xff\x10\x00\x00\x00", "an Arrow stream"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"Salted__", "a file encrypted by OpenSSL"),
    (b"age-encryption.org/", "a file encrypted by age"),
    (b"-----BEGIN PGP MESSAGE-----", "a file encrypted by PGP"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer"),
)
_AUDIO: Sequence[tuple[bytes, str]] = (
    (b"fLaC", "a FLAC file"),
    (b"RIFF", "a WAV file"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
    (b"\xff\xfb", "an MP3 file"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM file"),
)
_TEXTS: Sequence[tuple[re.Pattern[str], str]] = (
    (re.compile(r"<\?xml[^>]*>\s*<Error|<Error[\s>]"), "an error of an object store in XML"),
    (re.compile(r"<!doctype html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE), "an HTML page"),
    (re.compile(r"<\?xml|<[A-Za-z]"), "an XML document"),
    (re.compile(r"[\[{]\s*[\"\]}{\[0-9tfn-]"), "a JSON document"),
)
"""Patterns for the start of a text after white space, with the name of the format. The first match counts."""
_MP4_BOX = b"ftyp"
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def name_format(start: bytes) -> str | None:
    """Return the name of a file's format, such as ``a zip archive``; None for an unknown format.

    The name completes a sentence that begins with ``it is``.

    Args:
        start: the first ``SNIFFED_BYTES`` bytes of the file, or all of a shorter file.
    """
    if not start:
        return "empty (0 bytes)"
    if start[4:8] == _MP4_BOX:
        return "an MP4 file"
    return _name_by_magic(start, _AUDIO) or name_other_than_audio(start)


def name_binary(start: bytes) -> str | None:
    """Return the name of a binary format as ``name_format`` does; None for MP4, a text and an unknown format."""
    return _name_by_magic(start, (*_AUDIO, *_MAGIC))


def name_other_than_audio(start: bytes) -> str | None:
    """Return the name of a format other than audio as ``name_format`` does; None for audio and an unknown format."""
    return _name_by_magic(start, _MAGIC) or _name_text(start)


def _name_by_magic(start: bytes, names: Sequence[tuple[bytes, str]]) -> str | None:
    """Return the name whose magic number begins the file; None if none does."""
    return next((name for magic, name in names if start.startswith(magic)), None)


def _name_text(start: bytes) -> str | None:
    """Return the name of a text format; None if the bytes are no text in UTF-8 or UTF-16."""
    encoding = "utf-16" if start.startswith(_UTF16) else "utf-8-sig"
    try:
        text = start[: len(start) // 2 * 2 if encoding == "utf-16" else None].decode(encoding)
    except UnicodeDecodeError as error:
        if len(start) - error.start > 3 or encoding == "utf-16":  # noqa: PLR2004 - the end of `start` may cut a character
            return None
        text = start[: error.start].decode(encoding)
    text = text.lstrip()
    if not text or _BINARY.search(text):
        return None
    return next((name for pattern, name in _TEXTS if pattern.match(text)), "a text file")

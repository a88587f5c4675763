"""Read tars as a stream: nothing touches the disk, and what a video's tar must not hold is refused by name.

Python's ``tarfile`` takes the first damaged or missing header for the end of the tar, so that a damaged tar looks like
a shorter one. Here a tar ends at its end-of-archive mark, and everything else is an error.
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from validation.errors import Permanent

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_MIN_RATIO_BYTES = 16 << 20
"""The compression ratio is checked from here on: a small tar is mostly padding, which packs a thousand to one."""
_EXTENSION_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_MAX_EXTENSION_HEADER_BYTES = 8 << 10
"""A path has at most 4 KiB. ``tarfile`` reads such a header whole, and searches it in quadratic time."""
_UNSAFE_TYPES = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_FILE_TYPES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError, RecursionError)
"""What ``tarfile``, ``gzip`` and ``zlib`` raise over bytes that are not what they claim to be."""


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Limits of one tar, so that a hostile or wrongly packed object cannot exhaust the box."""

    members: int = 50_000
    """Twelve hours in segments of 4 s, two members each, are 21,600."""
    total_bytes: int = 2 << 30
    """After decompression, headers included. Twelve hours of 16 kHz 16-bit WAV are 1.4 GB; FLAC is half."""
    member_bytes: int = 3 << 29
    """1.5 GiB: the same twelve hours as a single WAV member."""
    ratio: float = 100.0
    """Bytes after decompression per byte before. Speech in WAV packs 1.3 to 1, a tar of nothing but JSON 42 to 1."""


class TarCorrupt(Permanent):
    """A tar is cut off or damaged: the members that could be read may not be all."""

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"in or after member {member!r}" if member else "at its start"
        super().__init__(f"{key}: the tar is broken {where}: {reason}")


class TarUnsafe(Permanent):
    """A tar holds what no video has (a link, a device, a path that leads outside), or passes a limit."""

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"member {member!r}" if member else "the tar"
        super().__init__(f"{key}: {where} is refused: {reason}")


class LimitExceeded(Permanent):
    """A tar breaks a rule or passes a limit; ``read_members`` adds which tar and which member."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar, whole."""

    name: str
    """Its path without a leading ``./``. Bytes that are not UTF-8 are written as ``\\xNN``."""
    payload: bytes


def read_members(
    stream: io.RawIOBase, key: str, limits: TarLimits, keep: Callable[[str], bool] = lambda _: True
) -> Iterator[Member]:
    """Read a plain or gzip-compressed tar from front to back, once.

    Args:
        stream: the tar's bytes.
        key: the object key, for errors.
        limits: what the tar may hold.
        keep: which files to read, by name; the others are skipped, but still checked.

    Yields:
        The kept files in the tar's order. Use none of them before the iteration has ended: damage may come last.

    Raises:
        TarCorrupt: the tar is cut off, damaged, or no tar.
        TarUnsafe: a member is not a plain file or folder inside the tar, or a limit is passed.
    """
    name: str | None = None
    paths: set[str] = set()
    try:
        with _open_tar(DecompressedStream(stream, limits)) as tar:
            for count, info in enumerate(tar, 1):
                name = info.name
                path = _check_member(info, count, limits)
                if info.isdir():
                    continue
                _check_unique(path, paths)
                if keep(path):
                    yield Member(path, _read_payload(tar, info))
            _check_padding(tar)
    except LimitExceeded as refusal:
        raise TarUnsafe(key, name, str(refusal)) from None
    except _DAMAGE as damage:
        raise TarCorrupt(key, name, str(damage)) from damage


class DecompressedStream(io.RawIOBase):
    """Reads a plain or gzip-compressed stream as plain bytes, within limits.

    Raises:
        LimitExceeded: more bytes, or a higher compression ratio, than ``limits`` allow.
        EOFError, gzip.BadGzipFile, zlib.error: the compressed stream is cut off or damaged.
    """

    def __init__(self, packed: io.RawIOBase, limits: TarLimits) -> None:
        super().__init__()
        self._packed, self._limits, self._plain_bytes = _CountingStream(packed), limits, 0
        source = io.BufferedReader(self._packed, _BUFFER_BYTES)
        compressed = source.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        self._source: io.BufferedIOBase = gzip.GzipFile(fileobj=source, mode="rb") if compressed else source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer)
        self._plain_bytes += count
        self._check_limits()
        return count

    def _check_limits(self) -> None:
        if self._plain_bytes > self._limits.total_bytes:
            raise LimitExceeded(f"it holds more than {self._limits.total_bytes} bytes")
        ratio = self._plain_bytes / max(1, self._packed.read_bytes)
        if self._plain_bytes > _MIN_RATIO_BYTES and ratio > self._limits.ratio:
            raise LimitExceeded(f"it unpacks {ratio:.0f} to 1, more than {self._limits.ratio:.0f} to 1")


class _CountingStream(io.RawIOBase):
    """Counts the bytes that are read through it."""

    def __init__(self, source: io.RawIOBase) -> None:
        super().__init__()
        self._source, self.read_bytes = source, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer) or 0
        self.read_bytes += count
        return count


class _StrictHeader(tarfile.TarInfo):
    """A member's header that is whole, or an error. ``tarfile`` lets only ``ReadError`` through to its caller."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictHeader":
        if len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends inside a header" if buf else "it ends without an end-of-archive mark")
        if not any(buf):
            return super().frombuf(buf, encoding, errors)  # raises the error by which ``tarfile`` knows the end
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as damage:
            raise tarfile.ReadError(f"what should be a header is none ({damage})") from None
        if header.size < 0:
            raise tarfile.ReadError(f"member {header.name!r} claims {header.size} bytes")
        if header.type in _EXTENSION_HEADERS and header.size > _MAX_EXTENSION_HEADER_BYTES:
            raise LimitExceeded(f"a header of {header.size} bytes follows")
        return header


def _open_tar(plain: DecompressedStream) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=plain, mode="r|", bufsize=_BUFFER_BYTES, tarinfo=_StrictHeader, errors="backslashreplace"
    )


def _check_member(info: tarfile.TarInfo, count: int, limits: TarLimits) -> str:
    """Return the member's path inside the tar, or refuse the member."""
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        raise LimitExceeded("its path leads outside the tar")
    if info.type in _UNSAFE_TYPES or info.issparse():
        raise LimitExceeded(f"it is {_UNSAFE_TYPES.get(info.type, 'a sparse file')}")
    if not info.isdir() and info.type not in _FILE_TYPES:
        raise LimitExceeded(f"its type is {info.type!r}")
    if info.size > limits.member_bytes:
        raise LimitExceeded(f"it has {info.size} bytes, more than {limits.member_bytes}")
    if count > limits.members:
        raise LimitExceeded(f"it is one more than {limits.members} members")
    return str(path)


def _check_unique(path: str, paths: set[str]) -> None:
    if path in paths:
        raise LimitExceeded("a member of this name came before")
    paths.add(path)


def _read_payload(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    extracted = tar.extractfile(info)
    return extracted.read(info.size) if extracted else b""  # with a size, it is not read in small pieces


def _check_padding(tar: tarfile.TarFile) -> None:
    """Read to the end: a second tar behind the first would be silently left out, and gzip keeps its checksum there."""
    while block := tar.fileobj.read(_BUFFER_BYTES):
        if block.strip(b"\0"):
            raise tarfile.ReadError("more than padding follows its end-of-archive mark")

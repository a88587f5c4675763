"""Tars, read as they arrive: nothing touches the disk, and what a tar should not hold is refused by name.

Python's ``tarfile`` reads a tar to its first doubt and calls that the end: a damaged header, or no header at all, looks
like a shorter tar. Here a tar ends at its end-of-archive mark, and everything else is an error.
"""

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from validation.corpus.decompression import DecompressedStream, LimitExceeded
from validation.corpus.limits import TarLimits
from validation.errors import Permanent

_BUFFER_BYTES = 1 << 18
_EXTENSION_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)
_EXTENSION_HEADER_BYTES = 8 << 10
"""A path has at most 4 KiB. ``tarfile`` reads such a header whole, and searches it in quadratic time."""
_REFUSED_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a fifo",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_FILE_KINDS = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError, RecursionError)
"""What ``tarfile``, ``gzip`` and ``zlib`` raise over bytes that are not what they claim to be."""


class TarCorrupt(Permanent):
    """A tar is cut off or damaged: what could be read of it may not be all."""

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"in or after member {member!r}" if member else "at its start"
        super().__init__(f"{key}: the tar is broken {where}: {reason}")


class TarUnsafe(Permanent):
    """A tar holds what no video has: a link, a device, a path that leads outside, or too much."""

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"member {member!r}" if member else "the tar"
        super().__init__(f"{key}: {where} is refused: {reason}")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar, whole."""

    name: str
    """Its path without a leading ``./``. Bytes that are not UTF-8 stand as ``\\xNN``."""
    payload: bytes


def read_members(
    stream: io.RawIOBase, key: str, limits: TarLimits, keep: Callable[[str], bool] = lambda _: True
) -> Iterator[Member]:
    """Read a plain or gzip-compressed tar from front to back, once.

    Args:
        stream: the tar's bytes.
        key: how errors name the tar.
        limits: what it may hold.
        keep: which files to read, by name; the others pass by unread, but not unchecked.

    Yields:
        The kept files in the tar's order. Nothing that was yielded counts until the iteration has ended: the damage
        may come last.

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
                path = _require_harmless(info, count, limits)
                if info.isdir():
                    continue
                _require_first(path, paths)
                if keep(path):
                    yield Member(path, _read_payload(tar, info))
            _require_only_padding(tar)
    except LimitExceeded as refusal:
        raise TarUnsafe(key, name, str(refusal)) from None
    except _DAMAGE as damage:
        raise TarCorrupt(key, name, str(damage)) from damage


class _StrictHeader(tarfile.TarInfo):
    """A member's header that is either whole, or an error: ``ReadError`` is the one that ``tarfile`` lets through."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_StrictHeader":
        if len(buf) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends inside a header" if buf else "it ends without an end-of-archive mark")
        if not any(buf):
            return super().frombuf(buf, encoding, errors)  # raises what ``tarfile`` knows the end by
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as damage:
            raise tarfile.ReadError(f"what should be a header is none ({damage})") from None
        if header.size < 0:
            raise tarfile.ReadError(f"member {header.name!r} claims {header.size} bytes")
        if header.type in _EXTENSION_HEADERS and header.size > _EXTENSION_HEADER_BYTES:
            raise LimitExceeded(f"a header of {header.size} bytes follows")
        return header


def _open_tar(plain: DecompressedStream) -> tarfile.TarFile:
    return tarfile.open(
        fileobj=plain, mode="r|", bufsize=_BUFFER_BYTES, tarinfo=_StrictHeader, errors="backslashreplace"
    )


def _require_harmless(info: tarfile.TarInfo, count: int, limits: TarLimits) -> str:
    """Return the member's path inside the tar, or refuse the member."""
    path = PurePosixPath(info.name)
    if path.is_absolute() or ".." in path.parts:
        raise LimitExceeded("its path leads outside the tar")
    if info.type in _REFUSED_KINDS or info.issparse():
        raise LimitExceeded(f"it is {_REFUSED_KINDS.get(info.type, 'a sparse file')}")
    if not info.isdir() and info.type not in _FILE_KINDS:
        raise LimitExceeded(f"its type is {info.type!r}")
    if info.size > limits.member_bytes:
        raise LimitExceeded(f"it has {info.size} bytes, more than {limits.member_bytes}")
    if count > limits.members:
        raise LimitExceeded(f"it is one more than {limits.members} members")
    return str(path)


def _require_first(path: str, paths: set[str]) -> None:
    if path in paths:
        raise LimitExceeded("a member of this name came before")
    paths.add(path)


def _read_payload(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    extracted = tar.extractfile(info)
    return extracted.read(info.size) if extracted else b""  # a size spares reading in small pieces


def _require_only_padding(tar: tarfile.TarFile) -> None:
    """Read to the end: a second tar behind the first would be silently left out, and gzip keeps its checksum there."""
    while block := tar.fileobj.read(_BUFFER_BYTES):
        if block.strip(b"\0"):
            raise tarfile.ReadError("more than padding follows its end-of-archive mark")

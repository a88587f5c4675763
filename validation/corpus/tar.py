"""Read tars as a stream, without a file on disk. Damaged and forbidden members raise errors that name the member.

Python's ``tarfile`` treats the first damaged or missing header as the end of the tar, so a damaged tar looks like a
shorter tar. It also searches extended headers in quadratic time. This reader accepts the POSIX (ustar, pax) and GNU
formats, stops at the end-of-archive mark, and raises an error for any other content.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from validation.corpus.budget import LimitExceeded, ReadBudget, TarLimits
from validation.corpus.paths import normalise_path
from validation.errors import Permanent
from validation.file_formats import name_format

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_MIN_RATIO_BYTES = 16 << 20
"""Size from which the compression ratio is checked. A small tar is mostly padding, with a ratio of a thousand."""

_BLOCK_BYTES = 512
_USTAR = b"ustar"
_PAX, _PAX_SOLARIS, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_LABEL = b"x", b"X", b"g", b"L", b"K", b"V"
_EXTENSIONS = frozenset({_PAX, _PAX_SOLARIS, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_LABEL})
_FILES, _FOLDER = frozenset({b"0", b"\0", b"7"}), b"5"
_UNSAFE_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a fifo",
    b"S": "a sparse file",
}
MAX_EXTENSION_BYTES = 1 << 20
"""Maximum size of an extended header, 1 MiB. macOS stores extended attributes and resource forks in such headers."""
_MAX_EXTENSIONS = 8
"""Maximum number of extended headers before one member. A name, a link and attributes need three."""
_MAX_SIZE_DIGITS = 19
"""Maximum number of decimal digits of a size: the digits of 2**63."""
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_GZIP_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error)
"""The errors that ``gzip`` and ``zlib`` raise for truncated or damaged data."""


class TarCorrupt(Permanent):
    """A tar is truncated or damaged, so the members that were read may be incomplete."""

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"in or after member {member!r}" if member else "at its start"
        super().__init__(f"{key}: the tar is broken {where}: {reason}")


class NotTar(TarCorrupt):
    """An object has another format than tar: another archive format, an HTML error page, a Git LFS pointer."""

    def __init__(self, key: str, name: str) -> None:
        self.key, self.member, self.reason = key, None, name
        Permanent.__init__(self, f"{key} is {name}, not a tar: a video is a plain or gzip-compressed tar")


class TarUnsafe(Permanent):
    """A tar holds a forbidden member, or the tar or the decoding of its audio exceeds a limit.

    A forbidden member is, for example, a link, a device, a path outside the tar, or a second file of the same path.
    """

    def __init__(self, key: str, member: str | None, reason: str) -> None:
        self.key, self.member, self.reason = key, member, reason
        where = f"member {member!r}" if member else "the tar"
        super().__init__(f"{key}: {where} is refused: {reason}")


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a tar with its complete content."""

    name: str
    """The path without a leading ``./``. Control characters, and bytes that are not UTF-8, are escaped as ``\\xNN``."""
    payload: bytes


def read_members(
    stream: io.RawIOBase, key: str, budget: ReadBudget, keep: Callable[[str], bool] = lambda _: True
) -> Iterator[Member]:
    """Read a plain or gzip-compressed tar from front to back, once.

    Args:
        stream: the tar's bytes.
        key: the object key, for errors.
        budget: the limits on the tar.
        keep: returns by path whether to read a file. Other files are skipped, but their headers are still checked.

    Yields:
        The kept files in the tar's order. Use none of them before the iteration has ended: damage may come last.

    Raises:
        TarCorrupt: the tar is cut off or damaged; ``NotTar`` if the object has another format.
        TarUnsafe: a member is not a plain file or folder inside the tar, two files have one path, or a limit is
            exceeded.
    """
    reader = _TarReader(DecompressedStream(stream, budget))
    paths: set[str] = set()
    with _named_errors(key, reader):
        for count, header in enumerate(reader.headers(), 1):
            path = _checked_path(header, count, budget.limits)
            if header.type == _FOLDER:
                continue
            _check_unique(path, paths)
            if keep(path):
                yield Member(path, reader.read_payload(header))


def check_first_header(stream: io.RawIOBase, key: str, budget: ReadBudget) -> None:
    """Read only the first header of a tar, to detect an object of another format. Raises as ``read_members``."""
    reader = _TarReader(DecompressedStream(stream, budget))
    with _named_errors(key, reader):
        next(reader.headers(), None)


class DecompressedStream(io.RawIOBase):
    """Reads a plain or gzip-compressed stream as decompressed bytes, within the limits of a budget.

    Raises:
        LimitExceeded: the size, the compression ratio or the processor time exceeds its limit.
        EOFError, gzip.BadGzipFile, zlib.error: the compressed stream is cut off or damaged.
    """

    def __init__(self, packed: io.RawIOBase, budget: ReadBudget) -> None:
        super().__init__()
        self._packed, self._budget, self._plain_bytes = _CountingStream(packed, budget), budget, 0
        source = io.BufferedReader(self._packed, _BUFFER_BYTES)
        self.is_gzip = source.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        self._source: io.BufferedIOBase = gzip.GzipFile(fileobj=source, mode="rb") if self.is_gzip else source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer)
        self._plain_bytes += count
        self._check_limits()
        return count

    def _check_limits(self) -> None:
        """Raise ``LimitExceeded`` if the size, the ratio or the time exceeds its limit."""
        limits = self._budget.limits
        if self._plain_bytes > limits.total_bytes:
            raise LimitExceeded(f"it holds more than {limits.total_bytes} bytes")
        ratio = self._plain_bytes / max(1, self._packed.read_bytes)
        if self._plain_bytes > _MIN_RATIO_BYTES and ratio > limits.ratio:
            raise LimitExceeded(f"it unpacks {ratio:.0f} to 1, more than {limits.ratio:.0f} to 1")
        self._budget.check_time()


class _CountingStream(io.RawIOBase):
    """Counts the compressed bytes, and checks the time even if a gzip file of empty members yields no output."""

    def __init__(self, source: io.RawIOBase, budget: ReadBudget) -> None:
        super().__init__()
        self._source, self._budget, self.read_bytes = source, budget, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer) or 0
        self.read_bytes += count
        self._budget.check_time()
        return count


@contextmanager
def _named_errors(key: str, reader: "_TarReader") -> Iterator[None]:
    """Convert internal errors to the errors of ``read_members``, which name the tar and the member."""
    try:
        yield
    except LimitExceeded as refusal:
        raise TarUnsafe(key, refusal.member or reader.member, str(refusal)) from None
    except _Damage as damage:
        if reader.member is None and (name := reader.name_other_format()):
            raise NotTar(key, name) from None
        raise TarCorrupt(key, reader.member, str(damage)) from None
    except _GZIP_ERRORS as damage:
        raise TarCorrupt(key, reader.member, str(damage)) from damage


class _Damage(Exception):
    """The bytes are no valid tar. ``read_members`` adds the key of the tar and the last member to the message."""


class _Header(NamedTuple):
    """A member's header. Extended headers have already replaced its fields."""

    name: str
    type: bytes
    size: int
    is_sparse: bool


class _TarReader:
    """Reads the headers and payloads of a tar from front to back."""

    def __init__(self, stream: DecompressedStream) -> None:
        self._stream, self._source = stream, io.BufferedReader(stream, _BUFFER_BYTES)
        self._unread_bytes = 0
        self._first_block: bytes | None = None
        self.member: str | None = None
        """Name of the member whose header was read last, for errors; None before the first header."""

    def headers(self) -> Iterator[_Header]:
        """Yield the header of each member up to the end-of-archive mark, then check that only padding follows.

        A payload that was not read before the next header is skipped.
        """
        while header := self._next_header():
            self.member, self._unread_bytes = header.name, _round_up_to_block(header.size)
            yield header
            self._skip(self._unread_bytes)
        self._check_padding()

    def name_other_format(self) -> str | None:
        """Name the format of an object without a valid first header; None for a damaged tar or an unknown format."""
        start = self._first_block or b""
        if start[257:262] == _USTAR:
            return None
        if self._stream.is_gzip:
            name = name_format(start) if start else "nothing"
            return name and f"a gzip file that holds {name}"
        return name_format(start)

    def read_payload(self, header: _Header) -> bytes:
        """Read the content of the member whose header was read last."""
        payload = self._read_exactly(header.size)
        self._skip(self._unread_bytes - header.size)
        self._unread_bytes = 0
        return payload

    def _next_header(self) -> _Header | None:
        """Read a member's header and its extended headers; return None at the end-of-archive mark."""
        attributes: dict[bytes, bytes] = {}
        for _ in range(_MAX_EXTENSIONS + 1):
            block = self._source.read(_BLOCK_BYTES)
            if self._first_block is None:
                self._first_block = block
            if len(block) < _BLOCK_BYTES:
                raise _Damage("it ends inside a header" if block else "it ends without an end-of-archive mark")
            if not any(block):
                if attributes:
                    raise _Damage("an extended header is followed by no member")
                return None
            header = _parse_header(block)
            if header.type not in _EXTENSIONS:
                return _apply_attributes(header, attributes)
            attributes |= self._read_extension(header)
        raise _Damage(f"more than {_MAX_EXTENSIONS} extended headers follow each other")

    def _read_extension(self, header: _Header) -> Mapping[bytes, bytes]:
        """Read an extended header; return the attributes that it sets for the next member."""
        if header.size > MAX_EXTENSION_BYTES:
            raise LimitExceeded(f"a header of {header.size} bytes follows, more than {MAX_EXTENSION_BYTES}")
        payload = self._read_exactly(header.size)
        self._skip(_round_up_to_block(header.size) - header.size)
        if header.type == _GNU_LONG_NAME:
            return {b"path": payload.partition(b"\0")[0]}
        if header.type in {_GNU_LONG_LINK, _GNU_LABEL}:
            return {}
        attributes = _parse_pax(payload)
        if header.type == _PAX_GLOBAL and attributes.keys() & {b"path", b"size"}:
            raise LimitExceeded("a global header gives all members one name or size")
        return attributes

    def _read_exactly(self, size: int) -> bytes:
        """Read ``size`` bytes; raise ``_Damage`` if the tar ends before."""
        payload = self._source.read(size)
        if len(payload) < size:
            raise _Damage(f"it ends after {len(payload)} of {size} bytes")
        return payload

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._read_exactly(min(size, _BUFFER_BYTES)))

    def _check_padding(self) -> None:
        """Read to the end, where gzip verifies its checksum. Raise ``_Damage`` if more than padding follows."""
        while block := self._source.read(_BUFFER_BYTES):
            if block.strip(b"\0"):
                raise _Damage("more than padding follows its end-of-archive mark")


def _parse_header(block: bytes) -> _Header:
    """Parse a header block (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format")."""
    claimed = _parse_number(block[148:156])
    unsigned = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if claimed != unsigned and claimed != unsigned - _sum_signs(block):
        raise _Damage("what should be a header is none (bad checksum)")
    name, prefix, kind = _parse_text(block[:100]), _parse_text(block[345:500]), block[156:157]
    if prefix and block[257:263] == b"ustar\0":  # GNU headers have other fields in place of the prefix
        name = f"{prefix}/{name}"
    size = _parse_number(block[124:136])
    if size < 0:
        raise _Damage(f"member {name!r} claims {size} bytes")
    if kind == b"\0" and name.endswith("/"):  # tars from before 1988 mark a folder by a slash
        kind = _FOLDER
    return _Header(name, kind, 0 if kind == _FOLDER else size, is_sparse=False)


def _sum_signs(block: bytes) -> int:
    """Return by how much the sum of a header's unsigned bytes exceeds that of signed bytes, which old tars store."""
    return 256 * sum(byte > 127 for byte in block[:148] + block[156:])  # noqa: PLR2004


def _parse_number(field: bytes) -> int:
    """Parse a number of a header: octal digits, or the binary form of GNU tar."""
    if field[0] in {0x80, 0xFF}:  # GNU format: a big-endian number in two's complement
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)  # noqa: PLR2004
    digits = field.partition(b"\0")[0].strip()
    if digits.strip(b"01234567"):
        raise _Damage("what should be a header is none (bad number)")
    return int(digits or b"0", 8)


def _parse_text(field: bytes) -> str:
    """Parse a text of a header, which ends at the first zero byte."""
    return _to_name(field.partition(b"\0")[0])


def _to_name(name: bytes) -> str:
    """Decode a name; escape control characters and bytes that are not UTF-8."""
    text = name.decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _parse_pax(payload: bytes) -> dict[bytes, bytes]:
    """Parse the records of an extended header: length in decimal digits, space, key, ``=``, value, line feed."""
    attributes: dict[bytes, bytes] = {}
    start = 0
    while start < len(payload):
        space = payload.find(b" ", start, start + 8)
        digits = payload[start : max(space, start)]
        stop = start + int(digits) if digits.isdigit() else 0
        key, equals, value = payload[space + 1 : stop].partition(b"=")
        if stop <= space or stop > len(payload) or not equals or not value.endswith(b"\n"):
            raise _Damage("an extended header is damaged")
        attributes[key] = value[:-1]
        start = stop
    return attributes


def _apply_attributes(header: _Header, attributes: Mapping[bytes, bytes]) -> _Header:
    """Return a header with the name, the size and the sparse flag that extended headers set."""
    if name := attributes.get(b"path"):
        header = header._replace(name=_to_name(name))
    if size := attributes.get(b"size"):
        if not size.isdigit() or len(size) > _MAX_SIZE_DIGITS:
            raise _Damage("an extended header is damaged")
        header = header._replace(size=0 if header.type == _FOLDER else int(size))
    return header._replace(
        name=header.name.rstrip("/") if header.type == _FOLDER else header.name,
        is_sparse=any(key.startswith(b"GNU.sparse.") for key in attributes),
    )


def _checked_path(header: _Header, count: int, limits: TarLimits) -> str:
    """Return the member's path inside the tar. Raise ``LimitExceeded`` if the member is forbidden or over a limit."""
    if len(header.name) > limits.name_chars:
        raise LimitExceeded(f"its name has {len(header.name)} characters, more than {limits.name_chars}")
    path = normalise_path(header.name)
    if path.startswith("/") or ".." in path.split("/"):
        raise LimitExceeded("its path leads outside the tar")
    if header.type in _UNSAFE_TYPES or header.is_sparse:
        raise LimitExceeded(f"it is {_UNSAFE_TYPES.get(header.type, 'a sparse file')}")
    if header.type != _FOLDER and header.type not in _FILES:
        raise LimitExceeded(f"its type is {header.type!r}")
    if header.size > limits.member_bytes:
        raise LimitExceeded(f"it has {header.size} bytes, more than {limits.member_bytes}")
    if count > limits.members:
        raise LimitExceeded(f"it is one more than {limits.members} members")
    return path


def _check_unique(path: str, paths: set[str]) -> None:
    """Add a path to ``paths``; raise ``LimitExceeded`` if an earlier member has the same path."""
    if path in paths:
        raise LimitExceeded("a member of this name came before")
    paths.add(path)


def _round_up_to_block(size: int) -> int:
    """Return the size in bytes that a payload occupies in a tar, padding included."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES

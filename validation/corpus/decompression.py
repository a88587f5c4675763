"""A tar's bytes without their compression, and no more of them than the limits allow."""

import gzip
import io
from typing import TYPE_CHECKING

from validation.corpus.limits import TarLimits
from validation.errors import Permanent

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_RATIO_FROM_BYTES = 16 << 20
"""The ratio counts from here on: a small tar is mostly padding, and padding packs a thousand to one."""


class LimitExceeded(Permanent):
    """A stream holds what no tar of ours may hold. Its reader knows which stream, and where in it."""


class DecompressedStream(io.RawIOBase):
    """Reads a plain or a gzip-compressed stream as plain bytes.

    Raises:
        Refused: more bytes, or a steeper compression, than ``limits`` allow.
        EOFError, gzip.BadGzipFile, zlib.error: the compressed stream is cut off or damaged.
    """

    def __init__(self, packed: io.RawIOBase, limits: TarLimits) -> None:
        super().__init__()
        self._packed, self._limits, self._plain_bytes = _CountedStream(packed), limits, 0
        source = io.BufferedReader(self._packed, _BUFFER_BYTES)
        compressed = source.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        self._source: io.BufferedIOBase = gzip.GzipFile(fileobj=source, mode="rb") if compressed else source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer)
        self._plain_bytes += count
        self._require_within_limits()
        return count

    def _require_within_limits(self) -> None:
        if self._plain_bytes > self._limits.total_bytes:
            raise LimitExceeded(f"it holds more than {self._limits.total_bytes} bytes")
        ratio = self._plain_bytes / max(1, self._packed.passed_bytes)
        if self._plain_bytes > _RATIO_FROM_BYTES and ratio > self._limits.ratio:
            raise LimitExceeded(f"it unpacks {ratio:.0f} to 1, more than {self._limits.ratio:.0f} to 1")


class _CountedStream(io.RawIOBase):
    """Counts what passes through it."""

    def __init__(self, source: io.RawIOBase) -> None:
        super().__init__()
        self._source, self.passed_bytes = source, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count = self._source.readinto(buffer) or 0
        self.passed_bytes += count
        return count

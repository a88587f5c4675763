"""One object as a stream of bytes."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import obstore
from obstore.store import ObjectStore

from validation.storage.errors import store_errors

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK_BYTES = 1 << 20
"""Held at a time: a box that fetches eight videos holds eight of these."""


class ObjectStream(io.RawIOBase):
    """An object's bytes in order, fetched while they are read.

    A short download is never a short object: the client library counts to ``size_bytes``, asks again for what is
    missing, and gives up with an error that is ``Unreachable`` here.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        super().__init__()
        self._store, self.key = store, key
        with store_errors(store, key):
            answer = obstore.get(store, key)
        self.size_bytes: int = answer.meta["size"]
        self._chunk = memoryview(b"")
        self._chunks: Iterator[bytes] = iter(answer.stream(min_chunk_size=_CHUNK_BYTES))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._chunk:
            self._chunk = memoryview(self._next_chunk())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunk, self._chunks = memoryview(b""), iter(())  # drops the connection, if it is still open
        super().close()

    def _next_chunk(self) -> bytes:
        with store_errors(self._store, self.key):
            return bytes(next(self._chunks, b""))

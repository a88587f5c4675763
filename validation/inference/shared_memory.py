"""Audio in memory that a client and the server share: an anonymous memfd, freed with the last process that maps it."""

import fcntl
import mmap
import os
from bisect import bisect

import numpy as np
from numpy.typing import NDArray

from validation.domain import Waveform
from validation.errors import Permanent

ARENA_BYTES = 512 << 20
"""More than two hours of audio. Only the pages that were written take memory."""
_SAMPLE_BYTES = np.dtype(np.float32).itemsize
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class InvalidSharedMemory(Permanent):
    """The shared memory of a client is not a sealed memfd, or an offset is out of range."""


class Arena:
    """The client's side, which writes; the server reads."""

    def __init__(self, size_bytes: int = ARENA_BYTES) -> None:
        self.fd = os.memfd_create("vfleet-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size_bytes)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._samples = np.frombuffer(mmap.mmap(self.fd, size_bytes), np.float32)

    @property
    def capacity(self) -> int:
        """Size in samples."""
        return len(self._samples)

    def write(self, offset: int, audio: Waveform) -> None:
        """Write audio at an offset in samples."""
        self._samples[offset : offset + len(audio)] = audio

    def close(self) -> None:
        """Unmap it. The server keeps its own mapping while it has segments of this client to score."""
        self._samples = np.empty(0, np.float32)
        os.close(self.fd)


class FreeList:
    """First-fit allocator of the samples of an arena. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, capacity)]
        """Start and end of each gap, in order; no two gaps touch."""

    def allocate(self, samples: int) -> int | None:
        """Allocate the first gap that is long enough; return its offset, None if there is none."""
        for number, (start, end) in enumerate(self._gaps):
            if end - start >= samples:
                self._gaps[number : number + 1] = [(start + samples, end)] if end - start > samples else []
                return start
        return None

    def free(self, offset: int, samples: int) -> None:
        """Free an allocation, and merge it with the gaps that it touches."""
        place = bisect(self._gaps, (offset, offset))
        start, end = offset, offset + samples
        first, last = place, place
        if place and self._gaps[place - 1][1] == start:
            first, start = place - 1, self._gaps[place - 1][0]
        if place < len(self._gaps) and self._gaps[place][0] == end:
            last, end = place + 1, self._gaps[place][1]
        self._gaps[first:last] = [(start, end)] if end > start else []


def map_arena(fd: int) -> NDArray[np.float32]:
    """Map a client's arena for reading; the descriptor may be closed afterwards.

    Raises:
        InvalidSharedMemory: it is not a sealed memfd. A file that shrinks would kill the process that reads it.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if seals & _SEALS != _SEALS:
        raise InvalidSharedMemory("the arena is not a memfd that is sealed against a change of its size")
    size_bytes = os.fstat(fd).st_size
    if not 0 < size_bytes <= ARENA_BYTES:
        raise InvalidSharedMemory(f"an arena of {size_bytes} bytes; allowed are 1 to {ARENA_BYTES}")
    return np.frombuffer(mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ), np.float32, size_bytes // _SAMPLE_BYTES)


def view_audio(arena: NDArray[np.float32], offset: int, samples: int) -> Waveform:
    """Return audio in an arena without copying it.

    Raises:
        InvalidSharedMemory: the range is not inside the arena.
    """
    if offset < 0 or samples < 0 or offset + samples > len(arena):
        raise InvalidSharedMemory(f"{samples} samples at offset {offset} are outside an arena of {len(arena)}")
    return arena[offset : offset + samples]

"""Audio that a client and the host share: memory without a name, which goes with the last process that holds it."""

import fcntl
import mmap
import os
from bisect import bisect

import numpy as np
from numpy.typing import NDArray

from validation.domain import Waveform
from validation.errors import Permanent

ARENA_BYTES = 512 << 20
"""More than two hours of audio. Only what was written takes memory."""
_SAMPLE_BYTES = np.dtype(np.float32).itemsize
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class InvalidSharedMemory(Permanent):
    """What a client shares is nothing that the host may safely read, or not where it says."""


class Arena:
    """The client's end: it writes, the host reads."""

    def __init__(self, size_bytes: int = ARENA_BYTES) -> None:
        self.fd = os.memfd_create("vfleet-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size_bytes)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _SEALS)
        self._samples = np.frombuffer(mmap.mmap(self.fd, size_bytes), np.float32)

    @property
    def capacity(self) -> int:
        """How many samples it holds."""
        return len(self._samples)

    def write(self, offset: int, audio: Waveform) -> None:
        """Put audio at an offset in samples."""
        self._samples[offset : offset + len(audio)] = audio

    def close(self) -> None:
        """Let go of it. The host reads on as long as it has something of it to score."""
        self._samples = np.empty(0, np.float32)
        os.close(self.fd)


class FreeList:
    """Which samples of an arena are free. Not safe for threads."""

    def __init__(self, capacity: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, capacity)]
        """Where each gap begins and ends, in order; no two touch."""

    def take(self, samples: int) -> int | None:
        """Take the first gap that is long enough; where it begins, None if there is none."""
        for number, (start, end) in enumerate(self._gaps):
            if end - start >= samples:
                self._gaps[number : number + 1] = [(start + samples, end)] if end - start > samples else []
                return start
        return None

    def give(self, offset: int, samples: int) -> None:
        """Give back what was taken there."""
        place = bisect(self._gaps, (offset, offset))
        start, end = offset, offset + samples
        first, last = place, place
        if place and self._gaps[place - 1][1] == start:
            first, start = place - 1, self._gaps[place - 1][0]
        if place < len(self._gaps) and self._gaps[place][0] == end:
            last, end = place + 1, self._gaps[place][1]
        self._gaps[first:last] = [(start, end)] if end > start else []


def map_arena(fd: int) -> NDArray[np.float32]:
    """Map a client's arena for reading; the descriptor may be closed then.

    Raises:
        InvalidSharedMemory: it is no sealed memfd. What can shrink under its reader kills it.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if seals & _SEALS != _SEALS:
        raise InvalidSharedMemory("the arena is no memfd that is sealed against a change of its size")
    size_bytes = os.fstat(fd).st_size
    if not 0 < size_bytes <= ARENA_BYTES:
        raise InvalidSharedMemory(f"an arena of {size_bytes} bytes; it must have at least one, at most {ARENA_BYTES}")
    return np.frombuffer(mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ), np.float32, size_bytes // _SAMPLE_BYTES)


def view_audio(arena: NDArray[np.float32], offset: int, samples: int) -> Waveform:
    """Look at audio in an arena without copying it.

    Raises:
        InvalidSharedMemory: it does not lie inside.
    """
    if offset < 0 or samples < 0 or offset + samples > len(arena):
        raise InvalidSharedMemory(f"{samples} samples from {offset} on do not lie in an arena of {len(arena)}")
    return arena[offset : offset + samples]

"""The protocol between clients and the inference server: frames on a Unix socket, and audio in shared memory.

A frame consists of four bytes and a body. The four bytes hold the length of the body, big-endian; the body is JSON. The
socket is a stream socket: a kernel buffer would limit the length of a datagram, and one system call can transfer many
frames of a stream.

    client                                                        server
    {"hello": 3}, with the descriptor of the client's arena   ->  {"welcome": {the suite}}
    {"request": [id, offset, samples, text, language, models]} -> {"answer": [id, {model: answer}]}, in any order
    {"cancel": [id, ...]}: requests whose batch is not taken yet are removed
    {"status": null}, also without a hello                    ->  {"status": {...}}
                                                                  {"rejected": reason}, then the connection ends

``offset`` and ``samples`` count float32 samples in the arena; ``models`` lists the requested models, null for all. The
client chooses globally unique ids. A request that is sent again with the same id is not scored a second time while the
server still has the request or its answer.

An arena is an anonymous memfd that a client and the server share. The kernel frees the memory when no process maps the
arena any more.
"""

import fcntl
import glob
import json
import mmap
import os
import struct
import tempfile
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, Fault, Scored, Seconds, Unscored, Waveform
from validation.errors import Permanent
from validation.scoring.signals import SuiteRoles

VERSION = 3
MAX_FRAME_BYTES = 64 << 20
"""Maximum length of a frame's body; far more than the longest transcript in a tar."""

INFERENCE_SOCKET_VARIABLE = "VFLEET_INFERENCE_SOCKET"
"""Environment variable that holds the path of the socket, for the server and for its clients."""

Frame: TypeAlias = dict[str, Any]
Answers: TypeAlias = Mapping[str, Answer]
"""The answers of the requested models for one segment, by model name."""
_LENGTH = struct.Struct(">I")


class BadFrame(Permanent):
    """The received bytes are not a frame of this protocol, or the frame is not allowed now, such as a second hello."""


# --- frames -----------------------------------------------------------------------------------------------------------


def pack_frame(frame: Frame) -> bytes:
    """Encode a frame. Decoding restores floats bit for bit, and texts exactly, lone surrogates included."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """A decoder that splits a byte stream into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, received: bytes) -> None:
        """Append received bytes to the stream."""
        self._bytes += received

    def pop(self) -> Frame | None:
        """Remove and return the next frame; None until a frame is complete.

        Raises:
            BadFrame: the frame is too large, or not a JSON object.
        """
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        if length > MAX_FRAME_BYTES:
            raise BadFrame(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
        end = _LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_LENGTH.size : end])
        del self._bytes[:end]
        return _parse(body)


def _parse(body: bytes) -> Frame:
    """Parse the body of a frame; raise ``BadFrame`` if it is no JSON object."""
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"the frame is not JSON: {error}") from None
    if not isinstance(frame, dict):
        raise BadFrame(f"the frame is not a JSON object: {str(frame)[:40]!r}")
    return frame


def encode_answers(answers: Answers) -> dict[str, Any]:
    """Convert the answers for one segment to JSON types."""
    return {model: _encode_answer(answer) for model, answer in answers.items()}


def decode_answers(encoded: Mapping[str, Any]) -> dict[str, Answer]:
    """Convert the result of ``encode_answers`` back to answers."""
    return {model: _decode_answer(answer) for model, answer in encoded.items()}


def decode_requested(encoded: Any) -> tuple[str, ...] | None:
    """Decode the names of the requested models; None stands for all models.

    Raises:
        BadFrame: the value is neither null nor a list of names.
    """
    match encoded:
        case None:
            return None
        case [*names] if all(isinstance(name, str) for name in names):
            return tuple(names)
        case _:
            raise BadFrame(f"not a list of model names: {str(encoded)[:80]}")


def _encode_answer(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Scored):
        return {"scored": dict(answer.values)}
    return {"unscored": [answer.fault.kind, answer.fault.message]}


def _decode_answer(encoded: Mapping[str, Any]) -> Answer:
    if "scored" in encoded:
        return Scored(encoded["scored"])
    return Unscored(Fault(*encoded["unscored"]))


@dataclass(frozen=True, slots=True)
class SuiteInfo:
    """The properties of a suite that a client needs to build rows from the suite's answers."""

    name: str
    roles: SuiteRoles
    rules: str
    """Version of the verdict rules; the client loads the rules itself."""
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]
    budget_s: Seconds
    """The batch budget in padded seconds, when the server became ready."""

    def encode(self) -> dict[str, Any]:
        """Convert the properties to JSON types."""
        return asdict(self)

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> Self:
        """Convert the result of ``encode`` back."""
        roles: dict[str, Any] = {
            role: tuple(models) if isinstance(models, list) else models for role, models in encoded["roles"].items()
        }
        columns = {model: tuple(Column(**column) for column in own) for model, own in encoded["columns"].items()}
        return cls(**{**encoded, "roles": SuiteRoles(**roles), "columns": columns})


# --- the path of the socket -------------------------------------------------------------------------------------------


def socket_path(worker_id: str) -> Path:
    """Return the socket path of the server that this process starts. Each worker session has a directory of its own.

    A replaced session deletes its directory when it ends, and must not delete the directory of its successor.
    """
    return Path(tempfile.gettempdir()) / f"{_dir_prefix(worker_id)}{os.getpid()}" / "socket"


def find_socket(worker_id: str) -> Path:
    """Return the path in ``INFERENCE_SOCKET_VARIABLE``; without it, the socket of the worker's latest session.

    If the worker has no session either, the result is the ``socket_path`` of this process.
    """
    if path := os.environ.get(INFERENCE_SOCKET_VARIABLE):
        return Path(path)
    sockets = [folder / "socket" for folder in find_session_dirs(worker_id).values()]
    return max(sockets, key=_socket_mtime, default=socket_path(worker_id))


def find_session_dirs(worker_id: str) -> dict[int, Path]:
    """Return the existing socket directories of a worker's sessions, by the pid of the session.

    The directory of a session that was killed may still exist.
    """
    prefix = _dir_prefix(worker_id)
    folders = Path(tempfile.gettempdir()).glob(f"{glob.escape(prefix)}*")
    return {int(pid): folder for folder in folders if (pid := folder.name.removeprefix(prefix)).isdecimal()}


def _dir_prefix(worker_id: str) -> str:
    return f"vfleet-inference-{worker_id}-"


def _socket_mtime(socket: Path) -> float:
    """Return the time at which a socket was created, in seconds since 1970; 0 if it does not exist."""
    try:
        return socket.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def proc_fd_path(path: Path) -> Iterator[str]:
    """Yield `/proc/self/fd/N/name` for a socket path, because `bind` and `connect` accept at most 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


ARENA_BYTES = 512 << 20
"""Default and maximum size of an arena: more than two hours of audio. Only pages that were written occupy memory."""
_SAMPLE_BYTES = np.dtype(np.float32).itemsize


class InvalidSharedMemory(Permanent):
    """The shared memory of a client is not a sealed memfd or has a wrong size, or an offset is out of range."""


class Arena:
    """The client's writable mapping of the shared audio. The server maps the memory for reading (``map_arena``)."""

    def __init__(self, size_bytes: int = ARENA_BYTES) -> None:
        self.fd = os.memfd_create("vfleet-arena", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size_bytes)
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, _size_seals())
        self._samples = np.frombuffer(mmap.mmap(self.fd, size_bytes), np.float32)

    @property
    def capacity(self) -> int:
        """Size of the arena in samples."""
        return len(self._samples)

    def write(self, offset: int, audio: Waveform) -> None:
        """Write audio at an offset in samples."""
        self._samples[offset : offset + len(audio)] = audio

    def close(self) -> None:
        """Unmap the arena and close its descriptor.

        The server keeps its own mapping until the connection is closed and no batch holds a segment of this client.
        """
        self._samples = np.empty(0, np.float32)
        os.close(self.fd)


class FreeList:
    """First-fit allocator of the samples of an arena. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._gaps: list[tuple[int, int]] = [(0, capacity)]
        """Start and end of each gap in samples, in ascending order; no two gaps touch."""

    def allocate(self, samples: int) -> int | None:
        """Allocate ``samples`` in the first gap that is long enough; return the offset, or None without such a gap."""
        for number, (start, end) in enumerate(self._gaps):
            if end - start >= samples:
                self._gaps[number : number + 1] = [(start + samples, end)] if end - start > samples else []
                return start
        return None

    def free(self, offset: int, samples: int) -> None:
        """Free an allocation and merge it with the adjacent gaps."""
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
        InvalidSharedMemory: the descriptor is not a memfd with a sealed size, or the size is not allowed. Without the
            seals a client could shrink the file, and the kernel would kill the server at its next read.
    """
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        seals = 0
    if seals & _size_seals() != _size_seals():
        raise InvalidSharedMemory("the arena is not a memfd that is sealed against a change of its size")
    size_bytes = os.fstat(fd).st_size
    if not 0 < size_bytes <= ARENA_BYTES:
        raise InvalidSharedMemory(f"an arena of {size_bytes} bytes; allowed are 1 to {ARENA_BYTES}")
    return np.frombuffer(mmap.mmap(fd, size_bytes, prot=mmap.PROT_READ), np.float32, size_bytes // _SAMPLE_BYTES)


def view_audio(arena: NDArray[np.float32], offset: int, samples: int) -> Waveform:
    """Return a view of ``samples`` samples of an arena, without a copy.

    Raises:
        InvalidSharedMemory: the range is not inside the arena.
    """
    if offset < 0 or samples < 0 or offset + samples > len(arena):
        raise InvalidSharedMemory(f"{samples} samples at offset {offset} are outside an arena of {len(arena)}")
    return arena[offset : offset + samples]


def _size_seals() -> int:
    """Return the seals that forbid a change of the size.

    They are read at the call, because only Linux has them and this module is imported on other systems too.
    """
    return fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

"""The protocol between clients and the inference server, and the path of the Unix socket that carries it.

A frame is its length as four bytes, big-endian, and that many bytes of JSON. The socket is a stream, because the
length of a datagram is limited by a kernel buffer, and because many frames fit one system call.

    client                                                        server
    {"hello": 3}, with the descriptor of the client's arena   ->  {"welcome": {the suite}}
    {"request": [id, offset, samples, text, language, models]} -> {"answer": [id, {model: answer}]}, in any order
    {"cancel": [id, ...]}: requests whose batch is not taken yet are removed
    {"status": null}, also without a hello                    ->  {"status": {...}}
                                                                  {"rejected": reason}, then the connection ends

``offset`` and ``samples`` count float32 samples in the arena; ``models`` lists the requested models, null for all. The
client makes up the ids, globally unique; a request that is sent again under its id is not scored a second time while
the server remembers it.
"""

import glob
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from validation.domain import Answer, Column, Fault, Scored, Seconds, Unscored
from validation.errors import Permanent
from validation.scoring.signals import SuiteRoles

VERSION = 3
MAX_FRAME_BYTES = 64 << 20
"""Far larger than any transcript in a tar."""

INFERENCE_SOCKET_VARIABLE = "VFLEET_INFERENCE_SOCKET"
"""Environment variable of the server and of its clients that holds the path of the socket."""

Frame: TypeAlias = dict[str, Any]
Answers: TypeAlias = Mapping[str, Answer]
"""The answers of every model for one segment, by model name."""
_LENGTH = struct.Struct(">I")


class BadFrame(Permanent):
    """The received bytes are not a frame of this protocol."""


# --- frames -----------------------------------------------------------------------------------------------------------


def pack_frame(frame: Frame) -> bytes:
    """Encode a frame. Floats are preserved bit for bit, and text as it is, lone surrogates included."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Splits a byte stream into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, received: bytes) -> None:
        self._bytes += received

    def pop(self) -> Frame | None:
        """Remove and return the next frame; None while it is incomplete.

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
    try:
        frame = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"the frame is not JSON: {error}") from None
    if not isinstance(frame, dict):
        raise BadFrame(f"the frame is not a JSON object: {str(frame)[:40]!r}")
    return frame


def encode_answers(answers: Answers) -> dict[str, Any]:
    return {model: _encode_answer(answer) for model, answer in answers.items()}


def decode_answers(encoded: Mapping[str, Any]) -> dict[str, Answer]:
    return {model: _decode_answer(answer) for model, answer in encoded.items()}


def decode_requested(encoded: Any) -> tuple[str, ...] | None:
    """Decode the names of the requested models; None for all.

    Raises:
        BadFrame: it is not a list of names.
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
    """What a client must know of a suite to build rows from its answers."""

    name: str
    roles: SuiteRoles
    rules: str
    """Version of the verdict rules; the client loads the rules itself."""
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]
    budget_s: Seconds

    def encode(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def decode(cls, encoded: Mapping[str, Any]) -> Self:
        roles: dict[str, Any] = {
            role: tuple(models) if isinstance(models, list) else models for role, models in encoded["roles"].items()
        }
        columns = {model: tuple(Column(**column) for column in own) for model, own in encoded["columns"].items()}
        return cls(**{**encoded, "roles": SuiteRoles(**roles), "columns": columns})


# --- the path of the socket -------------------------------------------------------------------------------------------


def socket_path(worker_id: str) -> Path:
    """Return the socket path of the server that this process starts, in a directory per worker session.

    Worker sessions do not share a directory: one that was replaced deletes its own at its end, not its successor's.
    """
    return Path(tempfile.gettempdir()) / f"{_dir_prefix(worker_id)}{os.getpid()}" / "socket"


def find_socket(worker_id: str) -> Path:
    """Return the socket path that the environment names, else that of the worker's latest session."""
    if path := os.environ.get(INFERENCE_SOCKET_VARIABLE):
        return Path(path)
    sockets = [folder / "socket" for folder in list_server_dirs(worker_id).values()]
    return max(sockets, key=_socket_mtime, default=socket_path(worker_id))


def list_server_dirs(worker_id: str) -> dict[int, Path]:
    """Return the directories of a worker's sessions, also of ended ones, by the pid of each session."""
    prefix = _dir_prefix(worker_id)
    folders = Path(tempfile.gettempdir()).glob(f"{glob.escape(prefix)}*")
    return {int(pid): folder for folder in folders if (pid := folder.name.removeprefix(prefix)).isdecimal()}


def _dir_prefix(worker_id: str) -> str:
    return f"vfleet-inference-{worker_id}-"


def _socket_mtime(socket: Path) -> float:
    try:
        return socket.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def proc_fd_path(path: Path) -> Iterator[str]:
    """Shorten a socket path for `bind` or `connect`, whose address holds 107 bytes: `/proc/self/fd/N/name`."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

"""What clients and the model host say to each other, over a Unix stream socket.

A frame is its length as four bytes, big-endian, and so many bytes of JSON. A stream and not a socket of datagrams:
frames are then bounded by us and not by a buffer of the kernel, and many travel in one system call.

    client                                                     host
    {"hello": 2}, with the arena's descriptor              ->  {"welcome": {the suite}}
    {"ask": [id, offset, samples, text, language, wanted]} ->  {"answer": [id, {model: answer}]}, in no order
    {"withdraw": [id, ...]}: what of it no model has in hand is forgotten
    {"status": null}, also without a hello                 ->  {"status": {...}}
                                                               {"refused": sentence}, then the connection ends

``offset`` and ``samples`` count float32 samples in the arena. An id is drawn by the client, unique for ever; an ask
that is repeated under its id is not scored twice as long as the host knows of it.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeAlias

from validation.domain import Answer, Column, Fault, Scored, Seconds, Unscored
from validation.errors import Permanent
from validation.scoring.signals import SuiteRoles

VERSION = 2
FRAME_BYTES = 64 << 20
"""No frame is larger; a transcript of a tar is smaller by far."""

Frame: TypeAlias = dict[str, Any]
Answers: TypeAlias = Mapping[str, Answer]
"""What every model says of one segment, by the model's name."""
_LENGTH = struct.Struct(">I")


class BadFrame(Permanent):
    """What came is not in this protocol."""


def pack_frame(frame: Frame) -> bytes:
    """Spell a frame. Text survives as it is, also half of a surrogate pair, and so does every float."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class FrameDecoder:
    """Bytes as they come, frames as they were sent."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, received: bytes) -> None:
        self._bytes += received

    def pop(self) -> Frame | None:
        """Take the next frame; None while it is not here as a whole.

        Raises:
            BadFrame: it is too large, or not an object in JSON.
        """
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        if length > FRAME_BYTES:
            raise BadFrame(f"a frame of {length} bytes; {FRAME_BYTES} are the most")
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
        raise BadFrame(f"a frame that is no JSON: {error}") from None
    if not isinstance(frame, dict):
        raise BadFrame(f"a frame that is no object: {str(frame)[:40]!r}")
    return frame


def encode_answers(answers: Answers) -> dict[str, Any]:
    return {model: _spell(answer) for model, answer in answers.items()}


def decode_answers(spelled: Mapping[str, Any]) -> dict[str, Answer]:
    return {model: _read(answer) for model, answer in spelled.items()}


def decode_requested(spelled: Any) -> tuple[str, ...] | None:
    """Read which models an ask wants; None for all.

    Raises:
        BadFrame: it is no list of names.
    """
    match spelled:
        case None:
            return None
        case [*names] if all(isinstance(name, str) for name in names):
            return tuple(names)
        case _:
            raise BadFrame(f"no names of models: {str(spelled)[:80]}")


def _spell(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Scored):
        return {"scored": dict(answer.values)}
    return {"unscored": [answer.fault.kind, answer.fault.message]}


def _read(spelled: Mapping[str, Any]) -> Answer:
    if "scored" in spelled:
        return Scored(spelled["scored"])
    return Unscored(Fault(*spelled["unscored"]))


@dataclass(frozen=True, slots=True)
class SuiteInfo:
    """A suite as it introduces itself: all that a client must know to make rows of its answers."""

    name: str
    roles: SuiteRoles
    rules: str
    """The version of the verdict rules, which the client loads itself."""
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]
    budget_s: Seconds

    def spell(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, spelled: Mapping[str, Any]) -> Self:
        roles = spelled["roles"]
        own = {
            "roles": SuiteRoles(tuple(roles["models"]), roles["asr_model"], tuple(roles["lid_models"])),
            "columns": {
                model: tuple(Column(**column) for column in columns) for model, columns in spelled["columns"].items()
            },
        }
        return cls(**{**spelled, **own})

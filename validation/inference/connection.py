"""One client of the host, as the host sees it."""

import os
import socket
from contextlib import suppress

import numpy as np

from validation.domain import Utterance
from validation.inference.protocol import (
    VERSION,
    Answers,
    BadFrame,
    Frame,
    FrameDecoder,
    SuiteInfo,
    decode_requested,
    encode_answers,
    pack_frame,
)
from validation.inference.scheduler import RequestScheduler
from validation.inference.shared_memory import InvalidSharedMemory, map_arena, view_audio
from validation.inference.status import InferenceStatus

READ_BYTES = 1 << 18
UNSENT_BYTES = 1 << 20
"""Answers that a client has not read, beyond which the host hears no more of it."""


class ClientConnection:
    """Reads what a client asks, and keeps what it is answered until its socket takes it. Never waits for it."""

    def __init__(
        self, sock: socket.socket, desk: RequestScheduler, profile: SuiteInfo, status: InferenceStatus
    ) -> None:
        self.sock = sock
        self._desk, self._profile, self._status = desk, profile, status
        self._inbox, self._unsent = FrameDecoder(), bytearray()
        self._descriptors: list[int] = []
        self._arena = np.empty(0, np.float32)
        self._has_joined = False
        self.is_over = False
        """Whether it was refused: nothing is heard of it any more."""

    @property
    def wants_to_send(self) -> bool:
        return bool(self._unsent)

    @property
    def has_heartbeat(self) -> bool:
        """Whether the host takes more of it now."""
        if self.is_over or len(self._unsent) > UNSENT_BYTES:
            return False
        return not self._has_joined or self._desk.may_ask(self)

    def read(self) -> None:
        """Take what the socket holds.

        Raises:
            OSError: the client is gone.
        """
        received, descriptors, _, _ = socket.recv_fds(self.sock, READ_BYTES, 1)
        self._descriptors += descriptors
        if not received:
            raise ConnectionResetError("the client has closed its end")
        if len(self._descriptors) > 1:
            self.refuse("a client has one arena")
        self._inbox.feed(received)
        self.hear()

    def hear(self) -> None:
        """Do what the client has asked, as far as it is let in. One that breaks the rules is told so and left."""
        try:
            while self.has_heartbeat and (frame := self._inbox.pop()) is not None:
                self._obey(frame)
        except (BadFrame, InvalidSharedMemory) as refusal:
            self.refuse(str(refusal))

    def answer(self, ask_id: str, answers: Answers) -> None:
        self._post({"answer": [ask_id, encode_answers(answers)]})

    def refuse(self, sentence: str) -> None:
        """Say why nothing more is heard of it."""
        self._post({"refused": sentence})
        self.is_over = True

    def send(self) -> None:
        """Send what the socket takes.

        Raises:
            OSError: the client is gone.
        """
        with suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]

    def close(self) -> None:
        self._desk.leave(self)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.sock.close()

    def _post(self, frame: Frame) -> None:
        self._unsent += pack_frame(frame)

    def _obey(self, frame: Frame) -> None:
        match frame:
            case {"ask": [str(ask_id), int(offset), int(samples), str(text), str() | None as language, wanted]}:
                if not self._has_joined:
                    raise BadFrame("an ask before hello")
                audio = view_audio(self._arena, offset, samples)
                self._desk.ask(self, ask_id, Utterance(audio, text, language, decode_requested(wanted)))
            case {"withdraw": [*ask_ids]} if all(isinstance(ask_id, str) for ask_id in ask_ids):
                self._desk.withdraw(self, ask_ids)
            case {"status": None}:
                self._post({"status": self._status.describe()})
            case {"hello": int(version)}:
                self._welcome(version)
            case _:
                raise BadFrame(f"no frame of this protocol: {str(frame)[:80]}")

    def _welcome(self, version: int) -> None:
        if version != VERSION:
            raise BadFrame(f"the client speaks version {version} of the protocol, the host {VERSION}")
        if self._has_joined or not self._descriptors:
            raise BadFrame("hello comes once, with an arena")
        self._arena = map_arena(self._descriptors[0])
        os.close(self._descriptors.pop())
        self._desk.join(self)
        self._has_joined = True
        self._post({"welcome": self._profile.spell()})

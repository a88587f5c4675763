"""A suite that lives in the model host, as flow runs use it."""

import logging
import select
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from validation.domain import Answer, Column, Fault, Seconds, Unscored, Utterance
from validation.errors import Permanent, Unreachable
from validation.host.address import short_address
from validation.host.arena import ARENA_BYTES, Arena
from validation.host.protocol import VERSION, Frame, Inbox, SuiteProfile, pack_frame, read_answers
from validation.scoring.rules_file import load_rules
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

log = logging.getLogger(__name__)

PATIENCE_S: Seconds = 300.0
"""How long a host may be away before its client gives up: a large suite loads for a minute or two."""
RETRY_S: Seconds = 0.2
RECEIVE_BYTES = 1 << 18


class HostAway(Unreachable):
    """No host answers at its socket."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__("the model host", str(path), "see the log of its worker, which starts it again", cause)


class HostRefused(Permanent):
    """The host will not serve this client; its own sentence says why."""


class HostScorer:
    """Asks the model host. To its caller a ``Suite``, but for where the models are.

    A host that dies is waited for, and what it had not answered is asked again: its audio still lies in the arena.
    Safe to share between threads, which take turns.

    Raises:
        HostAway: no host could be reached for ``patience_s``. Raised here, and by ``score``, which may be repeated.
        HostRefused: it speaks another protocol, or serves another suite than before.
    """

    def __init__(self, path: Path, *, patience_s: Seconds = PATIENCE_S, arena_bytes: int = ARENA_BYTES) -> None:
        self._path, self._patience_s = path, patience_s
        self._turn = threading.Lock()
        self._arena = Arena(arena_bytes)
        self._link, profile = self._connect()
        self._profile = profile
        self.name, self.pool_audio_s = profile.name, profile.pool_audio_s
        self.roles: SuiteRoles = profile.roles
        self.rules: Rules = load_rules(profile.rules)
        self.revisions: Mapping[str, str] = profile.revisions
        self.columns: Mapping[str, Sequence[Column]] = profile.columns

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Ask every model about every utterance; answers in the same order, by model name."""
        with self._turn:
            return [answers for wave in self._cut(utterances) for answers in self._score_wave(wave)]

    def close(self) -> None:
        self._link.close()
        self._arena.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cut(self, utterances: Sequence[Utterance]) -> Iterator[list[Utterance]]:
        """As many at a time as the arena holds. One that is too long for it alone is a wave of its own."""
        wave: list[Utterance] = []
        samples = 0
        for utterance in utterances:
            if wave and samples + len(utterance.audio) > self._arena.capacity:
                yield wave
                wave, samples = [], 0
            wave.append(utterance)
            samples += len(utterance.audio)
        if wave:
            yield wave

    def _score_wave(self, wave: Sequence[Utterance]) -> list[dict[str, Answer]]:
        if len(wave[0].audio) > self._arena.capacity:
            fault = Fault("too_long", f"{wave[0].duration_s:.0f} s of audio are more than the model host takes")
            return [dict.fromkeys(self.columns, Unscored(fault))]
        asks = self._lay_out(wave)
        answers: dict[str, dict[str, Answer]] = {}
        while len(answers) < len(asks):
            unasked = [ask for ask_id, ask in asks.items() if ask_id not in answers]
            try:
                self._link.exchange(unasked, answers)
            except OSError as error:
                log.warning("the model host has gone (%s) with %d segments; waiting for the next", error, len(unasked))
                self._reconnect()
        return [answers[ask_id] for ask_id in asks]

    def _lay_out(self, wave: Sequence[Utterance]) -> dict[str, bytes]:
        """Write the wave's audio into the arena; returns a frame an utterance, by the id drawn for it."""
        asks, offset, wave_id = {}, 0, uuid4().hex
        for number, utterance in enumerate(wave):
            self._arena.write(offset, utterance.audio)
            ask_id = f"{wave_id}-{number}"
            fields = [ask_id, offset, len(utterance.audio), utterance.text, utterance.language, utterance.wanted]
            asks[ask_id] = pack_frame({"ask": fields})
            offset += len(utterance.audio)
        return asks

    def _reconnect(self) -> None:
        self._link.close()
        self._link, profile = self._connect()
        if (profile.name, profile.revisions) != (self.name, self.revisions):
            raise HostRefused(f"the model host came back with other models: {profile.name} {dict(profile.revisions)}")

    def _connect(self) -> "tuple[_Link, SuiteProfile]":
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return _greet(self._path, self._arena)
            except OSError as error:
                if time.monotonic() >= deadline:
                    raise HostAway(self._path, error) from error
            time.sleep(RETRY_S)


class _Link:
    """One connection to a host."""

    def __init__(self, path: Path) -> None:
        self._inbox = Inbox()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with short_address(path) as address:
                self._socket.connect(address)
        except BaseException:
            self._socket.close()
            raise

    def greet(self, arena: Arena) -> SuiteProfile:
        with self._hearing_why():
            socket.send_fds(self._socket, [pack_frame({"hello": VERSION})], [arena.fd])
        return SuiteProfile.read(self.await_frame()["welcome"])

    def exchange(self, asks: Sequence[bytes], answers: dict[str, dict[str, Answer]]) -> None:
        """Send asks and gather as many answers, both at once: the host may hear no more before answers are read."""
        unsent = memoryview(b"".join(asks))
        lacking = len(asks)
        self._socket.setblocking(False)
        poll = select.poll()
        while lacking:
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if unsent else 0))
            ((_, events),) = poll.poll()
            if events & select.POLLOUT:
                with self._hearing_why():
                    unsent = unsent[self._socket.send(unsent) :]
            if events & ~select.POLLOUT:
                self._receive()
            while (frame := self._pop()) is not None:
                ask_id, spelled = frame["answer"]
                answers[ask_id] = read_answers(spelled)
                lacking -= 1

    def await_frame(self) -> Frame:
        self._socket.setblocking(True)
        while (frame := self._pop()) is None:
            self._receive()
        return frame

    def post(self, frame: Frame) -> None:
        with self._hearing_why():
            self._socket.sendall(pack_frame(frame))

    def close(self) -> None:
        self._socket.close()

    @contextmanager
    def _hearing_why(self) -> Iterator[None]:
        """Where the host has closed the connection, read why: its last words still wait here."""
        try:
            yield
        except BrokenPipeError:
            while True:
                self.await_frame()

    def _receive(self) -> None:
        received = self._socket.recv(RECEIVE_BYTES)
        if not received:
            raise ConnectionResetError("it closed the connection")
        self._inbox.feed(received)

    def _pop(self) -> Frame | None:
        frame = self._inbox.pop()
        if frame is not None and "refused" in frame:
            raise HostRefused(f"the model host refuses this client: {frame['refused']}")
        return frame


def _greet(path: Path, arena: Arena) -> tuple[_Link, SuiteProfile]:
    link = _Link(path)
    try:
        return link, link.greet(arena)
    except BaseException:
        link.close()
        raise


def read_status(path: Path) -> dict[str, Any]:
    """Ask a host how it is.

    Raises:
        HostAway: nobody answers at the socket.
    """
    try:
        with closing(_Link(path)) as link:
            link.post({"status": None})
            return dict(link.await_frame()["status"])
    except OSError as error:
        raise HostAway(path, error) from error

"""Asks on their way to the model host, and answers on their way back."""

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from validation.domain import Answer, Seconds, Utterance
from validation.inference.protocol import Frame, decode_answers, pack_frame
from validation.inference.shared_memory import Arena, FreeList
from validation.inference.transport import ServerConnection

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One segment that a client waits for."""

    id: str
    utterance: Utterance
    answer: Mapping[str, Answer] | None = None
    error: Exception | None = None
    """Why it will never be answered."""
    is_over: bool = False
    offset: int = field(default=-1)
    """Where its audio lies in the arena, in samples."""

    @property
    def samples(self) -> int:
        return len(self.utterance.audio)

    def frame(self) -> bytes:
        heard = self.utterance
        return pack_frame(
            {"ask": [self.id, self.offset, self.samples, heard.text, heard.language, heard.requested_models]}
        )


class RequestSender:
    """Carries asks to the host and answers back, in a thread of its own. Safe for all other threads.

    An ask waits here until the arena has room for its audio, which is free again once it is answered: so a client may
    ask far more than the arena holds, and the host always has as much before it as there can be. A host that dies is
    waited for, and asked again what it had not answered.

    Args:
        arena: shared with the host by every link that ``connect`` makes.
        connect: makes another link, as patiently as it likes; raises what the asks that wait are to be told.
        link: the first.
    """

    def __init__(self, arena: Arena, connect: Callable[[], ServerConnection], link: ServerConnection) -> None:
        self._arena, self._room, self._connect = arena, FreeList(arena.capacity), connect
        self._link: ServerConnection | None = link
        self._waiting: deque[PendingRequest] = deque()
        self._asked: dict[str, PendingRequest] = {}
        """Those whose audio lies in the arena."""
        self._unsent = bytearray()
        self._changed = threading.Condition()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model-host", daemon=True)
        self._thread.start()

    def carry(self, asks: Sequence[PendingRequest]) -> None:
        """Take asks along; none may be longer than the arena."""
        with self._changed:
            self._waiting += asks
        self._wake()

    def wait_for(self, asks: Sequence[PendingRequest], timeout_s: Seconds | None) -> bool:
        """Wait until nothing more will come of any of them, or until time is over; whether nothing more will."""
        with self._changed:
            return self._changed.wait_for(lambda: all(ask.is_over for ask in asks), timeout_s)

    def withdraw(self, asks: Sequence[PendingRequest]) -> None:
        """Forget asks that are not over; the host forgets those that no model has in hand."""
        with self._changed:
            unwanted = [ask for ask in asks if not ask.is_over]
            if not unwanted:
                return
            for ask in unwanted:
                ask.is_over = True
            self._waiting = deque(ask for ask in self._waiting if not ask.is_over)
            known = [ask.id for ask in unwanted if self._forget(ask.id) is not None]
            if known:
                self._unsent += pack_frame({"withdraw": known})
            self._changed.notify_all()
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()
        self._thread.join()
        os.close(self._wakeup)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            try:
                self._step()
            except OSError as error:
                log.warning("the model host has gone (%s) with %d segments", error, len(self._asked))
                self._hang_up()
            except Exception as error:  # noqa: BLE001 - whatever it is, nobody shall wait for ever
                self._give_up(error)
        self._hang_up()

    def _step(self) -> None:
        """Wait until something may be done, and do it."""
        if self._link is None and (self._asked or self._waiting):
            self._link = self._connect()
            with self._changed:
                self._unsent = bytearray().join(ask.frame() for ask in self._asked.values())
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._link is not None:
            poll.register(self._link, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for descriptor, events in poll.poll():
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif self._link is not None:
                self._exchange(self._link, events)
        self._lay_out()

    def _exchange(self, link: ServerConnection, events: int) -> None:
        if events & select.POLLOUT:
            with self._changed:
                del self._unsent[: link.send(self._unsent)]
        if events & ~select.POLLOUT:
            link.receive()
            with self._changed:
                while (frame := link.pop()) is not None:
                    self._hear(frame)
                self._changed.notify_all()

    def _hear(self, frame: Frame) -> None:
        ask_id, spelled = frame["answer"]
        ask = self._forget(ask_id)
        if ask is not None:  # or it was withdrawn meanwhile
            ask.answer, ask.is_over = decode_answers(spelled), True

    def _lay_out(self) -> None:
        """Put as many segments as there is room for into the arena, and ask about them."""
        with self._changed:
            while self._waiting and (offset := self._room.take(self._waiting[0].samples)) is not None:
                ask = self._waiting.popleft()
                ask.offset = offset
                self._arena.write(offset, ask.utterance.audio)
                self._asked[ask.id] = ask
                self._unsent += ask.frame()

    def _forget(self, ask_id: str) -> PendingRequest | None:
        ask = self._asked.pop(ask_id, None)
        if ask is not None:
            self._room.give(ask.offset, ask.samples)
        return ask

    def _hang_up(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        with self._changed:
            self._unsent.clear()

    def _give_up(self, error: Exception) -> None:
        """Tell everybody who waits that nothing will come."""
        self._hang_up()
        with self._changed:
            for ask in [*self._waiting, *self._asked.values()]:
                ask.error, ask.is_over = error, True
            self._waiting.clear()
            for ask_id in list(self._asked):
                self._forget(ask_id)
            self._changed.notify_all()

    def _wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

"""The server side of the socket: one thread that serves all clients, never blocks on a client and never computes."""

import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from validation.domain import Utterance
from validation.inference.protocol import (
    VERSION,
    Answers,
    BadFrame,
    Frame,
    FrameDecoder,
    InvalidSharedMemory,
    SuiteInfo,
    decode_requested,
    encode_answers,
    map_arena,
    pack_frame,
    proc_fd_path,
    view_audio,
)
from validation.inference.scheduler import RequestScheduler
from validation.inference.status import InferenceStatus

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
"""Maximum number of connections. A box has far fewer flow runs; each client may keep an arena in memory."""
READ_BYTES = 1 << 18
MAX_UNSENT_BYTES = 1 << 20
"""Limit of the answers that wait for a client to read them, in bytes. Above the limit, the server reads no further
requests of this client."""


class ClientConnection:
    """The connection of one client. It buffers answers until the socket accepts them. No method blocks."""

    def __init__(
        self, sock: socket.socket, scheduler: RequestScheduler, suite: SuiteInfo, status: InferenceStatus
    ) -> None:
        self.sock = sock
        self._scheduler, self._suite, self._status = scheduler, suite, status
        self._decoder, self._unsent = FrameDecoder(), bytearray()
        self._descriptors: list[int] = []
        self._arena = np.empty(0, np.float32)
        self._has_joined = False
        self.is_closing = False
        """Whether the client was rejected: nothing more is read from it."""

    @property
    def wants_to_send(self) -> bool:
        """Whether the buffer holds bytes for the client."""
        return bool(self._unsent)

    @property
    def accepts_input(self) -> bool:
        """Whether the server reads more from this client now."""
        if self.is_closing or len(self._unsent) > MAX_UNSENT_BYTES:
            return False
        return not self._has_joined or self._scheduler.can_accept(self)

    def read(self) -> None:
        """Read the bytes that the socket holds and process the complete frames.

        Raises:
            OSError: the client is gone.
        """
        received, descriptors, _, _ = socket.recv_fds(self.sock, READ_BYTES, 1)
        self._descriptors += descriptors
        if not received:
            raise ConnectionResetError("the client has closed the connection")
        if len(self._descriptors) > 1:
            self.reject("a client has one arena")
        self._decoder.feed(received)
        self.process_frames()

    def process_frames(self) -> None:
        """Process the received frames as far as back-pressure allows; reject a client that violates the protocol."""
        try:
            while self.accepts_input and (frame := self._decoder.pop()) is not None:
                self._handle_frame(frame)
        except (BadFrame, InvalidSharedMemory) as error:
            self.reject(str(error))

    def answer(self, request_id: str, answers: Answers) -> None:
        """Queue the answers to a request for sending."""
        self._queue_frame({"answer": [request_id, encode_answers(answers)]})

    def reject(self, reason: str) -> None:
        """Queue the reason for sending; read nothing more from this client."""
        self._queue_frame({"rejected": reason})
        self.is_closing = True

    def send(self) -> None:
        """Send as many buffered bytes as the socket accepts.

        Raises:
            OSError: the client is gone.
        """
        with suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]

    def close(self) -> None:
        """Remove the client from the scheduler, and close its socket and descriptors."""
        self._scheduler.remove_client(self)
        for descriptor in self._descriptors:
            os.close(descriptor)
        self.sock.close()

    def _queue_frame(self, frame: Frame) -> None:
        self._unsent += pack_frame(frame)

    def _handle_frame(self, frame: Frame) -> None:
        """Handle one frame; raise ``BadFrame`` or ``InvalidSharedMemory`` if it violates the protocol."""
        match frame:
            case {"request": [str(request_id), int(offset), int(samples), str(text), str() | None as language, models]}:
                if not self._has_joined:
                    raise BadFrame("a request came before hello")
                audio = view_audio(self._arena, offset, samples)
                utterance = Utterance(audio, text, language, decode_requested(models))
                self._scheduler.submit(self, request_id, utterance)
            case {"cancel": [*request_ids]} if all(isinstance(request_id, str) for request_id in request_ids):
                self._scheduler.cancel(self, request_ids)
            case {"status": None}:
                self._queue_frame({"status": self._status.describe()})
            case {"hello": int(version)}:
                self._handle_hello(version)
            case _:
                raise BadFrame(f"not a frame of this protocol: {str(frame)[:80]}")

    def _handle_hello(self, version: int) -> None:
        """Map the arena of the client and welcome the client; raise as ``_handle_frame``."""
        if version != VERSION:
            raise BadFrame(f"the client speaks version {version} of the protocol, the server version {VERSION}")
        if self._has_joined or not self._descriptors:
            raise BadFrame("hello comes once, with an arena")
        self._arena = map_arena(self._descriptors[0])
        os.close(self._descriptors.pop())
        self._scheduler.add_client(self)
        self._has_joined = True
        self._queue_frame({"welcome": self._suite.encode()})


class Server:
    """The event loop that serves all clients.

    Args:
        listener: the result of ``listen_unix``.
        scheduler: the scheduler that takes the requests and returns the answers.
        suite: the suite that the welcome frame describes to each client.
        status: the counters that a client may request. The server updates the number of clients in them.
        wakeup: an eventfd that is written when the scheduler has completed requests.
    """

    def __init__(
        self,
        listener: socket.socket,
        scheduler: RequestScheduler,
        suite: SuiteInfo,
        status: InferenceStatus,
        wakeup: int,
    ) -> None:
        self._listener, self._scheduler, self._suite, self._status = listener, scheduler, suite, status
        self._wakeup = wakeup
        self._connections: dict[int, ClientConnection] = {}
        self._stopped = False
        self._poll = select.epoll()
        for descriptor in (listener.fileno(), wakeup):
            self._poll.register(descriptor, select.EPOLLIN)

    def serve(self) -> None:
        """Run the event loop until ``stop``; all connections are closed at the end."""
        while not self._stopped:
            for descriptor, events in self._poll.poll():
                self._dispatch_event(descriptor, events)
        for connection in list(self._connections.values()):
            self._close(connection)
        self._poll.close()

    def stop(self) -> None:
        """End ``serve``. Safe from any thread and from a signal handler."""
        self._stopped = True
        os.eventfd_write(self._wakeup, 1)

    def _dispatch_event(self, descriptor: int, events: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor == self._wakeup:
            os.eventfd_read(self._wakeup)
            self._flush_responses()
        elif (connection := self._connections.get(descriptor)) is not None:
            self._exchange(connection, events)

    def _accept(self) -> None:
        """Accept a connection; reject it if there are ``MAX_CLIENTS`` others."""
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        connection = ClientConnection(sock, self._scheduler, self._suite, self._status)
        self._connections[sock.fileno()] = connection
        self._poll.register(sock, select.EPOLLIN)
        if len(self._connections) > MAX_CLIENTS:
            connection.reject(f"the inference server has {MAX_CLIENTS} clients already")
            self._flush_and_rearm(connection)
        self._status.clients = len(self._connections)

    def _exchange(self, connection: ClientConnection, events: int) -> None:
        """Read from a client whose socket has events, and send what the socket accepts; close a broken connection."""
        try:
            if events & (select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionResetError
            if events & select.EPOLLIN:
                connection.read()
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        self._flush_and_rearm(connection)

    def _flush_responses(self) -> None:
        """Queue the completed answers, then process the received frames that back-pressure delayed."""
        for client, request_id, answers in self._scheduler.pop_completed():
            if isinstance(client, ClientConnection):
                client.answer(request_id, answers)
        for connection in list(self._connections.values()):
            connection.process_frames()
            self._flush_and_rearm(connection)

    def _flush_and_rearm(self, connection: ClientConnection) -> None:
        """Send what the socket accepts, set the events to wait for, and close a rejected or broken connection."""
        with suppress(OSError):
            connection.send()
            if not connection.is_closing:
                self._update_interest(connection)
                return
        self._close(connection)

    def _update_interest(self, connection: ClientConnection) -> None:
        """Wait for input only if it is accepted, and for output only if there is some."""
        reads = select.EPOLLIN if connection.accepts_input else 0
        self._poll.modify(connection.sock, reads | (select.EPOLLOUT if connection.wants_to_send else 0))

    def _close(self, connection: ClientConnection) -> None:
        del self._connections[connection.sock.fileno()]
        self._poll.unregister(connection.sock)
        connection.close()
        self._status.clients = len(self._connections)


@contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that only this user can connect to; delete the socket at the end.

    A socket that exists at the path is replaced, because a server that was killed leaves its socket behind.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        umask = os.umask(0o177)
        try:
            with proc_fd_path(path) as address:
                listener.bind(address)
        finally:
            os.umask(umask)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

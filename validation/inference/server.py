"""The host's socket: one thread, which never waits for a client and never computes."""

import logging
import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from validation.inference.address import proc_fd_path
from validation.inference.connection import ClientConnection
from validation.inference.protocol import SuiteInfo
from validation.inference.scheduler import RequestScheduler
from validation.inference.status import InferenceStatus

log = logging.getLogger(__name__)

MAX_CLIENTS = 64
"""Far more than flow runs on a box; each may keep an arena in memory."""


class Server:
    """Serves clients until stopped."""

    def __init__(
        self, listener: socket.socket, desk: RequestScheduler, profile: SuiteInfo, status: InferenceStatus, wakeup: int
    ) -> None:
        self._listener, self._desk, self._profile, self._status = listener, desk, profile, status
        self._wakeup = wakeup
        self._connections: dict[int, ClientConnection] = {}
        self._stopped = False
        self._poll = select.epoll()
        for descriptor in (listener.fileno(), wakeup):
            self._poll.register(descriptor, select.EPOLLIN)

    def serve(self) -> None:
        """Return once stopped; every connection is closed then."""
        while not self._stopped:
            for descriptor, events in self._poll.poll():
                self._attend(descriptor, events)
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._poll.close()

    def stop(self) -> None:
        """End ``serve``. From any thread, and from a signal's handler."""
        self._stopped = True
        os.eventfd_write(self._wakeup, 1)

    def _attend(self, descriptor: int, events: int) -> None:
        if descriptor == self._listener.fileno():
            self._accept()
        elif descriptor == self._wakeup:
            os.eventfd_read(self._wakeup)
            self._hand_out()
        elif (connection := self._connections.get(descriptor)) is not None:
            self._exchange(connection, events)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        connection = self._connections[sock.fileno()] = ClientConnection(sock, self._desk, self._profile, self._status)
        self._poll.register(sock, select.EPOLLIN)
        if len(self._connections) > MAX_CLIENTS:
            connection.refuse(f"the host has {MAX_CLIENTS} clients already")
            self._settle(connection)
        self._status.clients = len(self._connections)

    def _exchange(self, connection: ClientConnection, events: int) -> None:
        try:
            if events & (select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionResetError
            if events & select.EPOLLIN:
                connection.read()
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        self._settle(connection)

    def _hand_out(self) -> None:
        """Pass on what was answered. Room has become free: hear also what had to wait."""
        for client, ask_id, answers in self._desk.collect():
            if isinstance(client, ClientConnection):
                client.answer(ask_id, answers)
        for connection in list(self._connections.values()):
            connection.hear()
            self._settle(connection)

    def _settle(self, connection: ClientConnection) -> None:
        """Send what can be sent, then wait for what may come next; nothing more may come of one that was refused."""
        with suppress(OSError):
            connection.send()
            if not connection.is_over:
                self._await(connection)
                return
        self._drop(connection)

    def _await(self, connection: ClientConnection) -> None:
        reads = select.EPOLLIN if connection.has_heartbeat else 0
        self._poll.modify(connection.sock, reads | (select.EPOLLOUT if connection.wants_to_send else 0))

    def _drop(self, connection: ClientConnection) -> None:
        del self._connections[connection.sock.fileno()]
        self._poll.unregister(connection.sock)
        connection.close()
        self._status.clients = len(self._connections)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that only this user can reach. What a killed host left at the path gives way."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o177)
        try:
            with proc_fd_path(path) as address:
                listener.bind(address)
        finally:
            os.umask(before)
        listener.listen(MAX_CLIENTS)
        listener.setblocking(False)
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                path.unlink()

"""A proxy that can freeze: what a client sent is acknowledged, and nothing is answered any more."""

import socket
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

from validation.local.service import HOST


class StalledProxy:
    """Relays connections to a port of this machine until it is frozen. Neither end notices, as if a machine vanished.

    Use as a context manager; every connection is closed at the end.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server((HOST, 0))
        self._ends: list[socket.socket] = []
        self._running = Event()
        self._running.set()
        self._freeze_word: bytes | None = None

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def is_frozen(self) -> bool:
        return not self._running.is_set()

    def address_through(self, database_url: str) -> str:
        """The address of the same database through this proxy."""
        return database_url.replace(f":{self._upstream}/", f":{self.port}/")

    def freeze(self) -> None:
        """Hold back everything that is sent from now on."""
        self._running.clear()

    def freeze_after(self, word: bytes) -> None:
        """Freeze after a client has sent this word: the request arrives, and its answer does not."""
        self._freeze_word = word

    def thaw(self) -> None:
        """Relay again, beginning with what was held back."""
        self._running.set()

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._running.wait()
                server = socket.create_connection((HOST, self._upstream))
                self._ends += [client, server]
                Thread(target=self._relay, args=(client, server), daemon=True).start()
                Thread(target=self._relay, args=(server, client), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(1 << 16):
                self._running.wait()
                if self._freeze_word is not None and self._freeze_word in received:
                    self._freeze_word = None
                    self.freeze()
                sink.sendall(received)
            sink.shutdown(socket.SHUT_WR)

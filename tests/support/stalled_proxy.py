"""A way to a server that can freeze: what was sent stays acknowledged, and nothing comes any more."""

import socket
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Self

from validation.local.loopback import HOST


class StalledProxy:
    """Relays connections to a port of this machine until frozen. Neither end is told: that is how a machine vanishes.

    Usable as a context manager; every connection is closed at the end.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server((HOST, 0))
        self._ends: list[socket.socket] = []
        self._flows = Event()
        self._flows.set()
        self._last_word: bytes | None = None

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def is_frozen(self) -> bool:
        return not self._flows.is_set()

    def lead(self, database_url: str) -> str:
        """The address of the same database, along this line."""
        return database_url.replace(f":{self._upstream}/", f":{self.port}/")

    def freeze(self) -> None:
        self._flows.clear()

    def freeze_after(self, word: bytes) -> None:
        """Freeze once a client has said this: it still arrives, its answer does not."""
        self._last_word = word

    def thaw(self) -> None:
        self._flows.set()

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
                self._flows.wait()
                server = socket.create_connection((HOST, self._upstream))
                self._ends += [client, server]
                Thread(target=self._relay, args=(client, server), daemon=True).start()
                Thread(target=self._relay, args=(server, client), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while said := source.recv(1 << 16):
                self._flows.wait()
                if self._last_word is not None and self._last_word in said:
                    self._last_word = None
                    self.freeze()
                sink.sendall(said)
            sink.shutdown(socket.SHUT_WR)

"""One connection to a model host, as a client sees it."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from validation.errors import Permanent, Unreachable
from validation.inference.address import proc_fd_path
from validation.inference.protocol import VERSION, Frame, FrameDecoder, SuiteInfo, pack_frame
from validation.inference.shared_memory import Arena

RECEIVE_BYTES = 1 << 18


class ServerUnavailable(Unreachable):
    """No host answers at its socket."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__("the model host", str(path), "see the log of its worker, which starts it again", cause)


class ServerRejectedClient(Permanent):
    """The host will not serve this client; its own sentence says why."""


class ServerConnection:
    """Frames to a host and from it.

    Raises:
        OSError: from any call, the host is gone.
        ServerRejectedClient: from any call, the host has closed the connection and said why.
    """

    def __init__(self, path: Path) -> None:
        self._inbox = FrameDecoder()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with proc_fd_path(path) as address:
                self._socket.connect(address)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def greet(self, arena: Arena) -> SuiteInfo:
        """Share the arena; from then on no call waits, but ``await_frame``."""
        with self._hearing_why():
            socket.send_fds(self._socket, [pack_frame({"hello": VERSION})], [arena.fd])
        profile = SuiteInfo.read(self.await_frame()["welcome"])
        self._socket.setblocking(False)
        return profile

    def post(self, frame: Frame) -> None:
        with self._hearing_why():
            self._socket.sendall(pack_frame(frame))

    def send(self, unsent: bytes | bytearray) -> int:
        """Send what the socket takes now; how many bytes that were."""
        with self._hearing_why(), suppress(BlockingIOError):
            return self._socket.send(unsent)
        return 0

    def receive(self) -> None:
        """Take what has come."""
        with suppress(BlockingIOError):
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise ConnectionResetError("it closed the connection")
            self._inbox.feed(received)

    def pop(self) -> Frame | None:
        """The next frame that has come as a whole."""
        frame = self._inbox.pop()
        if frame is not None and "refused" in frame:
            raise ServerRejectedClient(f"the model host refuses this client: {frame['refused']}")
        return frame

    def await_frame(self) -> Frame:
        self._socket.setblocking(True)
        while (frame := self.pop()) is None:
            self.receive()
        return frame

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


def connect_to_server(path: Path, arena: Arena) -> tuple[ServerConnection, SuiteInfo]:
    """Connect to a host and share an arena with it."""
    link = ServerConnection(path)
    try:
        return link, link.greet(arena)
    except BaseException:
        link.close()
        raise


def read_status(path: Path) -> dict[str, Any]:
    """Ask a host how it is.

    Raises:
        ServerUnavailable: nobody answers at the socket.
    """
    try:
        with closing(ServerConnection(path)) as link:
            link.post({"status": None})
            return dict(link.await_frame()["status"])
    except OSError as error:
        raise ServerUnavailable(path, error) from error

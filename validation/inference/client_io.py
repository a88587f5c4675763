"""The client side of the socket: a connection to the server, and a thread that sends requests and receives answers."""

import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from validation.domain import Answer, Seconds, Utterance
from validation.errors import Permanent, Unreachable
from validation.inference.protocol import (
    VERSION,
    Arena,
    Frame,
    FrameDecoder,
    FreeList,
    SuiteInfo,
    decode_answers,
    pack_frame,
    proc_fd_path,
)

log = logging.getLogger(__name__)

RECEIVE_BYTES = 1 << 18


class ServerUnavailable(Unreachable):
    """No server answers at the socket."""

    def __init__(self, path: Path, cause: object) -> None:
        check = "see the log of its worker, which restarts it"
        super().__init__("the inference server", str(path), check, cause)


class ServerRejectedClient(Permanent):
    """The server rejected this client; the message holds the server's reason."""


class ServerConnection:
    """A connection over which client and server exchange frames.

    Raises:
        OSError: the server cannot be reached or closed the connection. Every method that connects, sends or receives
            may raise this error.
        ServerRejectedClient: the server rejected this client. Every method that sends or returns a frame may raise it.
        BadFrame: the server sent no valid frame. The same methods may raise it.
    """

    def __init__(self, path: Path) -> None:
        self._decoder = FrameDecoder()
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            with proc_fd_path(path) as address:
                self._socket.connect(address)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def handshake(self, arena: Arena) -> SuiteInfo:
        """Send the arena's descriptor and return the server's suite. Afterwards only ``await_frame`` blocks."""
        with self._explain_disconnect():
            socket.send_fds(self._socket, [pack_frame({"hello": VERSION})], [arena.fd])
        suite = SuiteInfo.decode(self.await_frame()["welcome"])
        self._socket.setblocking(False)
        return suite

    def send_frame(self, frame: Frame) -> None:
        """Send a frame completely. Call this only without or before ``handshake``, while the socket blocks."""
        with self._explain_disconnect():
            self._socket.sendall(pack_frame(frame))

    def send(self, unsent: bytes | bytearray) -> int:
        """Send as many bytes as the socket accepts now; return the number of bytes sent."""
        with self._explain_disconnect(), suppress(BlockingIOError):
            return self._socket.send(unsent)
        return 0

    def receive(self) -> None:
        """Read the bytes that have arrived into the decoder."""
        with suppress(BlockingIOError):
            received = self._socket.recv(RECEIVE_BYTES)
            if not received:
                raise ConnectionResetError("it closed the connection")
            self._decoder.feed(received)

    def pop(self) -> Frame | None:
        """Remove and return the next complete frame; None if no complete frame was read."""
        frame = self._decoder.pop()
        if frame is not None and "rejected" in frame:
            raise ServerRejectedClient(f"the inference server rejects this client: {frame['rejected']}")
        return frame

    def await_frame(self) -> Frame:
        """Wait for the next frame and return it."""
        self._socket.setblocking(True)
        while (frame := self.pop()) is None:
            self.receive()
        return frame

    def close(self) -> None:
        self._socket.close()

    @contextmanager
    def _explain_disconnect(self) -> Iterator[None]:
        """If a send fails because the server closed the connection, read and raise the reason that the server sent.

        Raises:
            ServerRejectedClient: the reason, which is still in the socket.
            OSError: the server sent no reason.
        """
        try:
            yield
        except BrokenPipeError:
            while True:
                self.await_frame()


def connect(path: Path, arena: Arena) -> tuple[ServerConnection, SuiteInfo]:
    """Connect to a server and share an arena with it; return the connection and the server's suite."""
    connection = ServerConnection(path)
    try:
        return connection, connection.handshake(arena)
    except BaseException:
        connection.close()
        raise


def read_status(path: Path) -> dict[str, Any]:
    """Return the status of the server at a socket. A server that hangs makes this call wait without a limit.

    Raises:
        ServerUnavailable: no server answers at the socket.
        ServerRejectedClient: the server has too many clients.
    """
    try:
        with closing(ServerConnection(path)) as connection:
            connection.send_frame({"status": None})
            return dict(connection.await_frame()["status"])
    except OSError as error:
        raise ServerUnavailable(path, error) from error


@dataclass(slots=True, eq=False)
class PendingRequest:
    """One segment that a client wants scored."""

    id: str
    utterance: Utterance
    answers: Mapping[str, Answer] | None = None
    """The answer of each requested model, by model name; None without answers yet."""
    error: Exception | None = None
    """The error because of which the request gets no answer; None without an error."""
    is_done: bool = False
    """Whether the request is answered, failed or cancelled."""
    offset: int = field(default=-1)
    """Offset of the audio in the arena, in samples; -1 until the audio is written to the arena."""

    @property
    def samples(self) -> int:
        """The number of samples of the audio."""
        return len(self.utterance.audio)

    def encode(self) -> bytes:
        """Encode the request as a frame. Its audio must be in the arena."""
        u = self.utterance
        return pack_frame({"request": [self.id, self.offset, self.samples, u.text, u.language, u.requested_models]})


class RequestSender:
    """A thread that sends requests to the server and receives the answers. Every public method is thread-safe.

    A request waits in the sender until the arena has room for its audio. The room is free again when the request is
    answered, failed or cancelled. So a client may submit far more audio than fits the arena. When the server dies, the
    sender waits for the next server and sends the unanswered requests again.

    Args:
        arena: shared memory for the audio; ``reconnect`` shares it with each new server.
        reconnect: waits for a server and returns a new connection. After an OSError from it, the sender calls it again;
            any other exception becomes the error of all requests that are not done.
        connection: the first connection.
    """

    def __init__(self, arena: Arena, reconnect: Callable[[], ServerConnection], connection: ServerConnection) -> None:
        self._arena, self._free_list, self._reconnect = arena, FreeList(arena.capacity), reconnect
        self._connection: ServerConnection | None = connection
        self._waiting: deque[PendingRequest] = deque()
        """Requests for which the arena has no room yet."""
        self._sent: dict[str, PendingRequest] = {}
        """Requests whose audio lies in the arena."""
        self._unsent = bytearray()
        """Bytes of frames that the socket has not accepted yet."""
        self._changed = threading.Condition()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="inference-client", daemon=True)
        self._thread.start()

    def submit(self, requests: Sequence[PendingRequest]) -> None:
        """Enqueue requests. The audio of each request must fit the arena."""
        with self._changed:
            self._waiting += requests
        self._wake()

    def wait(self, requests: Sequence[PendingRequest], timeout_s: Seconds | None) -> bool:
        """Wait until all of these requests are done, at most ``timeout_s``; return whether all are done."""
        with self._changed:
            return self._changed.wait_for(lambda: all(request.is_done for request in requests), timeout_s)

    def cancel(self, requests: Sequence[PendingRequest]) -> None:
        """Cancel the requests that are not done. The server removes a request unless its batch is already taken."""
        with self._changed:
            cancelled = [request for request in requests if not request.is_done]
            if not cancelled:
                return
            for request in cancelled:
                request.is_done = True
            self._waiting = deque(request for request in self._waiting if not request.is_done)
            sent = [request.id for request in cancelled if self._forget_request(request.id) is not None]
            if sent:
                self._unsent += pack_frame({"cancel": sent})
            self._changed.notify_all()
        self._wake()

    def close(self) -> None:
        """End the thread and close the connection. Requests that are not done yet never become done."""
        self._closed = True
        self._wake()
        self._thread.join()
        os.close(self._wakeup)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Handle events until ``close``. An OSError ends the connection; any other error fails all requests."""
        while not self._closed:
            try:
                self._step()
            except OSError as error:
                log.warning("the inference server has gone (%s) with %d of our segments", error, len(self._sent))
                self._disconnect()
            except Exception as error:  # noqa: BLE001 - becomes the error of all requests, so that no caller hangs
                self._fail_all(error)
        self._disconnect()

    def _step(self) -> None:
        """Reconnect if requests are open without a connection; wait for events; handle them; fill the arena."""
        if self._connection is None and (self._sent or self._waiting):
            self._connection = self._reconnect()
            with self._changed:
                self._unsent = bytearray().join(request.encode() for request in self._sent.values())
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if self._connection is not None:
            poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for descriptor, events in poll.poll():
            if descriptor == self._wakeup:
                os.eventfd_read(self._wakeup)
            elif self._connection is not None:
                self._exchange(self._connection, events)
        self._fill_arena()

    def _exchange(self, connection: ServerConnection, events: int) -> None:
        """Send and receive what the socket allows now, and record the answers that have arrived."""
        if events & select.POLLOUT:
            with self._changed:
                del self._unsent[: connection.send(self._unsent)]
        if events & ~select.POLLOUT:
            connection.receive()
            with self._changed:
                while (frame := connection.pop()) is not None:
                    self._on_response(frame)
                self._changed.notify_all()

    def _on_response(self, frame: Frame) -> None:
        """Record an answer, and free the arena of its audio."""
        request_id, encoded = frame["answer"]
        request = self._forget_request(request_id)
        if request is not None:  # None: it was cancelled in the meantime
            request.answers, request.is_done = decode_answers(encoded), True

    def _fill_arena(self) -> None:
        """Write the audio of waiting requests into the arena while it has room, and queue the requests for sending."""
        with self._changed:
            while self._waiting and (offset := self._free_list.allocate(self._waiting[0].samples)) is not None:
                request = self._waiting.popleft()
                request.offset = offset
                self._arena.write(offset, request.utterance.audio)
                self._sent[request.id] = request
                self._unsent += request.encode()

    def _forget_request(self, request_id: str) -> PendingRequest | None:
        """Free the arena of a sent request and return the request; None if no such request is sent."""
        request = self._sent.pop(request_id, None)
        if request is not None:
            self._free_list.free(request.offset, request.samples)
        return request

    def _disconnect(self) -> None:
        """Close the connection and drop unsent bytes. The sent requests stay, to be sent again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        with self._changed:
            self._unsent.clear()

    def _fail_all(self, error: Exception) -> None:
        """Make an error the result of all requests, waiting and sent."""
        self._disconnect()
        with self._changed:
            for request in [*self._waiting, *self._sent.values()]:
                request.error, request.is_done = error, True
            self._waiting.clear()
            for request_id in list(self._sent):
                self._forget_request(request_id)
            self._changed.notify_all()

    def _wake(self) -> None:
        """Wake the thread, so that it handles new requests or the end."""
        os.eventfd_write(self._wakeup, 1)

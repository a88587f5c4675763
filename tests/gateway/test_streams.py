"""The proxy ends an event stream with the box, its token or the token file."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from starlette.websockets import WebSocket

from validation.gateway import proxy as module
from validation.gateway.proxy import AuthorizingProxy
from validation.gateway.tokens import TokenFile

SUBSCRIPTION = {"type": "filter", "filter": {"event": {"name": ["prefect.flow-run.Cancelling"]}}}


class SilentServer:
    """A Prefect server that accepts a stream and sends nothing on it."""

    is_open = False

    @asynccontextmanager
    async def open_socket(self, _path):
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False

    async def send(self, _message):
        pass

    async def recv(self):
        await asyncio.Event().wait()


class Box:
    """The box's end of a stream: it has sent its messages, and stays connected until `leave`."""

    def __init__(self, *messages):
        self.outbox = asyncio.Queue()
        self.received = []
        self.greeted = asyncio.Event()
        self.outbox.put_nowait({"type": "websocket.connect"})
        for message in messages:
            self.outbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message)})

    def leave(self):
        """Disconnect."""
        self.outbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def receive(self, message):
        self.received.append(message)
        if message["type"] == "websocket.send":
            self.greeted.set()

    @property
    def socket(self) -> WebSocket:
        headers = [(b"x-vfleet-box", b"box-1")]
        scope = {"type": "websocket", "path": "/api/events/out", "headers": headers, "query_string": b""}
        return WebSocket(scope, self.outbox.get, self.receive)


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    """A token file with a token of the box; the proxy checks it continually."""
    monkeypatch.setattr(module, "TOKEN_CHECK_INTERVAL_S", 0)
    file = TokenFile(tmp_path / "boxes")
    file.add("box-1")
    return file


def listen(tokens, then):
    """Subscribe a box to events, call ``then``, and return box and server once the stream has ended."""

    async def run_stream():
        box, server = Box({"type": "auth"}, SUBSCRIPTION), SilentServer()
        stream = asyncio.create_task(AuthorizingProxy(server, tokens, "vast-gpu").relay_server_events(box.socket))
        await box.greeted.wait()
        assert server.is_open
        then(box)
        await asyncio.wait_for(stream, 30)
        return box, server

    return asyncio.run(run_stream())


def test_stream_ends_when_the_box_disconnects(tokens):
    """Both sides are closed, even while the server sends nothing."""
    _, server = listen(tokens, Box.leave)
    assert not server.is_open


def test_stream_ends_when_the_token_is_revoked(tokens):
    """The box gets the reason, and the server's side is closed."""
    box, server = listen(tokens, lambda _: tokens.revoke("box-1"))
    assert box.received[-1] == {"type": "websocket.close", "code": 1008, "reason": "token revoked"}
    assert not server.is_open


def test_stream_ends_when_the_token_file_is_unreadable(tokens, monkeypatch):
    """Without the file the proxy cannot know which boxes are allowed; a box that is will connect again."""

    def fail():
        raise PermissionError(13, "Permission denied")

    _, server = listen(tokens, lambda _: monkeypatch.setattr(tokens, "read", fail))
    assert not server.is_open


def test_stream_of_a_token_revoked_while_connecting_ends(tokens):
    """A token may be revoked after nginx checked it and before the proxy does."""
    tokens.revoke("box-1")
    box, _ = listen(tokens, lambda _: None)
    assert box.received[-1]["reason"] == "token revoked"

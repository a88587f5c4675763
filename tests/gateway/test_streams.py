"""The proxy's event streams end when they should, and outlive no token."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from starlette.websockets import WebSocket

from validation.gateway import proxy as module
from validation.gateway.proxy import AuthorizingProxy
from validation.gateway.tokens import TokenFile

WANTED = {"type": "filter", "filter": {"event": {"name": ["prefect.flow-run.Cancelling"]}}}


class SilentServer:
    """Prefect's server on a day when nothing happens: it takes a stream and says nothing on it."""

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
    """The box's end of a stream. It has said its words, and stays until it is told to leave."""

    def __init__(self, *words):
        self.said = asyncio.Queue()
        self.heard = []
        self.greeted = asyncio.Event()
        self.said.put_nowait({"type": "websocket.connect"})
        for word in words:
            self.said.put_nowait({"type": "websocket.receive", "text": json.dumps(word)})

    def leave(self):
        self.said.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def hear(self, message):
        self.heard.append(message)
        if message["type"] == "websocket.send":
            self.greeted.set()

    @property
    def socket(self) -> WebSocket:
        headers = [(b"x-vfleet-box", b"box-1")]
        scope = {"type": "websocket", "path": "/api/events/out", "headers": headers, "query_string": b""}
        return WebSocket(scope, self.said.get, self.hear)


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOKEN_CHECK_INTERVAL_S", 0)
    file = TokenFile(tmp_path / "boxes")
    file.add("box-1")
    return file


def listen(tokens, then):
    """Let a box wait for events, do something, and return the box and the server when the stream has ended."""

    async def live():
        box, server = Box({"type": "auth"}, WANTED), SilentServer()
        stream = asyncio.create_task(AuthorizingProxy(server, tokens, "vast-gpu").relay_server_events(box.socket))
        await box.greeted.wait()
        assert server.is_open
        then(box)
        await asyncio.wait_for(stream, 30)
        return box, server

    return asyncio.run(live())


def test_a_stream_ends_with_the_box_that_left(tokens):
    """Also while the server has nothing to say: what nobody hears any more is closed on both sides."""
    _, server = listen(tokens, Box.leave)
    assert not server.is_open


def test_a_stream_ends_with_its_token(tokens):
    """The box is told why, and the server's side is closed."""
    box, server = listen(tokens, lambda _: tokens.revoke("box-1"))
    assert box.heard[-1] == {"type": "websocket.close", "code": 1008, "reason": "token revoked"}
    assert not server.is_open


def test_a_stream_ends_where_the_token_file_cannot_be_read(tokens, monkeypatch):
    """What nobody can tell to be allowed is not: a box whose token lives comes again."""

    def fail():
        raise PermissionError(13, "Permission denied")

    _, server = listen(tokens, lambda _: monkeypatch.setattr(tokens, "read", fail))
    assert not server.is_open


def test_a_box_that_was_revoked_at_the_door_hears_nothing(tokens):
    """Its token may end after nginx has seen it and before the proxy looks."""
    tokens.revoke("box-1")
    box, _ = listen(tokens, lambda _: None)
    assert box.heard[-1]["reason"] == "token revoked"

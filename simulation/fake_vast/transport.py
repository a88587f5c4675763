"""The requests and replies of the fake, and the injection of connection failures."""

import json
import random
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from validation.domain import Seconds

SLOW_S: Seconds = 35.0
"""Delay of a late reply. It is longer than the client's timeout."""

KINDS = (
    "commit_then_drop",  # the request takes effect, the connection closes before the answer
    "commit_then_504",
    "commit_then_refuse",  # a create rents a machine, although the answer is a refusal
    "reject_then_502",  # nothing takes effect
    "slow",  # the answer comes after the client timed out
    "html_502",
    "refuse_politely",  # status 200, success false, no effect
    "truncated",  # the answer is cut in half
    "wrong_total",  # a listing whose total is larger than the number of its rows
    "error_500",
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    query: Mapping[str, str]
    key: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to a client, with JSON or text as its body.

    If ``lost``, the connection closes without an answer. If ``late`` too, it closes only after the client's timeout.
    """

    status: int
    body: Mapping[str, Any] | str
    headers: Mapping[str, str] = field(default_factory=dict)
    lost: bool = False
    late: bool = False

    def encode(self) -> tuple[bytes, str]:
        if isinstance(self.body, str):
            return self.body.encode(), "text/html"
        return json.dumps(self.body).encode(), "application/json"


def refusal(status: int, error: str, message: str, **more: Any) -> Reply:
    """Make an error reply in the vendor's format."""
    return Reply(status, {"success": False, "error": error, "msg": message, **more})


class FailingConnection:
    """Injects failures into requests: queued failures of an endpoint first, then failures by chance."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._next: dict[str, deque[str]] = defaultdict(deque)
        self._chances: dict[str, dict[str, float]] = {}
        self.played: dict[str, int] = defaultdict(int)

    def play_next(self, endpoint: str, *kinds: str) -> None:
        """Queue one failure for each of the next requests to an endpoint. The kind ``none`` lets a request pass."""
        self._next[endpoint].extend(kinds)

    def set_chances(self, endpoint: str, chances: Mapping[str, float]) -> None:
        self._chances[endpoint] = dict(chances)

    def set_all(self, chances: Mapping[str, Mapping[str, float]]) -> None:
        """Set the probability of each kind of failure per endpoint. Other endpoints do not fail by chance."""
        self._chances = {endpoint: dict(kinds) for endpoint, kinds in chances.items()}

    def corrupt(self, endpoint: str, serve: Callable[[], Reply]) -> Reply:  # noqa: PLR0911 - one return per kind
        """Draw a failure for a request to an endpoint, and return the reply. Some failures do not call ``serve``."""
        kind = self._draw(endpoint)
        if kind == "none":
            return serve()
        self.played[f"{endpoint}:{kind}"] += 1
        match kind:
            case "commit_then_drop":
                serve()
                return Reply(0, "", lost=True)
            case "commit_then_504":
                serve()
                return Reply(504, "<html>504 Gateway Time-out</html>")
            case "commit_then_refuse":
                reply = serve()
                left = reply.body.get("new_contract") if isinstance(reply.body, Mapping) else None
                refusal = {
                    "success": False,
                    "error": "invalid_price",
                    "msg": "the bid is too low",
                    "new_contract": left,
                }
                return Reply(400, refusal) if left else reply
            case "slow":
                serve()
                return Reply(0, "", lost=True, late=True)
            case "truncated":
                reply = serve()
                return Reply(reply.status, reply.encode()[0].decode()[: len(reply.encode()[0]) // 2])
            case "wrong_total":
                reply = serve()
                body = reply.body if isinstance(reply.body, Mapping) else {}
                return Reply(reply.status, {**body, "total_instances": (body.get("total_instances") or 0) + 3})
            case "refuse_politely":
                return Reply(200, {"success": False, "error": "internal", "msg": "try again"})
            case "error_500":
                return Reply(500, {"success": False, "error": "internal_error", "msg": "oops"})
        return Reply(502, "<html>502 Bad Gateway</html>")

    def _draw(self, endpoint: str) -> str:
        if self._next[endpoint]:
            return self._next[endpoint].popleft()
        roll = self._rng.random()
        for kind, chance in self._chances.get(endpoint, {}).items():
            if (roll := roll - chance) < 0:
                return kind
        return "none"


class Server(Protocol):
    """A server that answers requests and whose clock can be advanced."""

    def handle(self, request: Request) -> Reply: ...

    def advance(self, seconds: Seconds) -> None: ...


class FakeTransport(httpx.BaseTransport):
    """An HTTP transport that calls the fake without a socket, for simulations in virtual time."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._server.handle(read_request(request))
        if reply.late:
            self._server.advance(SLOW_S)
            raise httpx.ReadTimeout("no answer in time", request=request)
        if reply.lost:
            raise httpx.RemoteProtocolError("server disconnected without sending a response", request=request)
        content, kind = reply.encode()
        return httpx.Response(reply.status, content=content, headers={**reply.headers, "Content-Type": kind})


def read_request(request: httpx.Request) -> Request:
    content = request.read()
    return Request(
        request.method,
        request.url.path,
        dict(request.url.params),
        request.headers.get("Authorization", "").removeprefix("Bearer "),
        json.loads(content) if content else {},
    )

"""Looks into what boxes send where a route alone does not say whose flow run it is about.

A flow run of the boxes' pool belongs to the box that took it: whose proposal to make it PENDING was accepted. From then
on nobody else may move it, describe it, look it up, or send or hear events about it, until it is SCHEDULED again. So a
stolen token can take runs from that pool's queue, which come to nothing without the ledger's consent, and can disturb
no other box and nothing of the control plane.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from validation.domain import Seconds
from validation.gateway import policy as rules
from validation.gateway.ownership import Ownership
from validation.gateway.prefect_server import PrefectServer
from validation.gateway.tokens import TokenFile

log = logging.getLogger("vfleet.gateway")

LOOK_S: Seconds = 5.0
"""How long the event stream of a revoked box may stay open."""
_POLICY_VIOLATION = 1008

_Carry = Callable[[str, WebSocket, ClientConnection], Coroutine[Any, Any, str]]
"""Carries the messages of one stream until a side ends it, which raises. Returns why the gateway ends it."""


class AuthorizingProxy:
    """The requests and streams that nginx hands on. ``X-Vfleet-Box`` says whose they are; nobody but nginx sets it."""

    def __init__(self, server: PrefectServer, tokens: TokenFile, pool: str) -> None:
        self._server, self._tokens = server, tokens
        self._ownership = Ownership(server, pool)

    def build_app(self) -> Starlette:
        """The application that an ASGI server serves on loopback."""
        run = "/api/flow_runs/{run:uuid}"
        return Starlette(
            routes=[
                Route(f"{run}/set_state", self.move_run, methods=["POST"]),
                Route(f"{run}/labels", self.label_run, methods=["PATCH"]),
                Route(run, self.describe_run, methods=["PATCH"]),
                Route("/api/flow_runs/filter", self.find_runs, methods=["POST"]),
                Route("/api/work_pools/{pool}/workers/heartbeat", self.note_heartbeat, methods=["POST"]),
                WebSocketRoute("/api/events/in", self.take_events),
                WebSocketRoute("/api/events/out", self.give_events),
            ],
            exception_handlers={httpx.HTTPError: _ask_again},
            lifespan=self._close_at_end,
        )

    async def move_run(self, request: Request) -> Response:
        """Let a box take a waiting run, and move one that it took."""
        run, box, kind = request.path_params["run"], _box(request), rules.proposed_state(await _json(request))
        taking = kind == "PENDING" and not await self._ownership.owns(box, run)
        if kind is None or not await (self._ownership.is_waiting(run) if taking else self._ownership.owns(box, run)):
            return _refuse(box, f"flow run {run} is not this box's")
        answer = await self._repeat(request)
        if taking and answer.is_success and answer.json().get("status") == "ACCEPT":
            self._ownership.record_assignment(run, box)
        return _hand_back(answer)

    async def label_run(self, request: Request) -> Response:
        """Let a box write its name on a run that it took."""
        run, box = request.path_params["run"], _box(request)
        if not rules.may_label(box, await _json(request)) or not await self._ownership.owns(box, run):
            return _refuse(box, f"these labels of flow run {run}")
        return _hand_back(await self._repeat(request))

    async def describe_run(self, request: Request) -> Response:
        """Let a box rename a run that it took, and note its process."""
        run, box = request.path_params["run"], _box(request)
        if foreign := rules.find_foreign_fields(await _json(request)):
            return _refuse(box, f"writing {', '.join(sorted(foreign))} of flow run {run}")
        if not await self._ownership.owns(box, run):
            return _refuse(box, f"flow run {run} is not this box's")
        return _hand_back(await self._repeat(request))

    async def find_runs(self, request: Request) -> Response:
        """Let a box look up runs that it took, as it does where the event stream cannot tell it of a wish to cancel."""
        box, body = _box(request), await _json(request)
        asked = rules.find_requested_runs(body)
        if asked is None:
            return _refuse(box, "a search for other flow runs")
        own = [run for run in asked if await self._ownership.owns(box, run)]
        return _hand_back(await self._repeat(request, json.dumps(rules.narrow_search(body, own)).encode()))

    async def note_heartbeat(self, request: Request) -> Response:
        """Let a box's worker show that it lives, under the box's own name."""
        box, body = _box(request), await _json(request)
        if not isinstance(body, dict) or body.get("name") != box:
            return _refuse(box, "the heartbeat of another worker")
        return _hand_back(await self._repeat(request))

    async def take_events(self, socket: WebSocket) -> None:
        """Hand on the events of a box about itself and its runs; any other is dropped, with a word in the log."""
        await self._stream(socket, self._carry_up)

    async def give_events(self, socket: WebSocket) -> None:
        """Hand a box the events that it waits for, of its own runs."""
        await self._stream(socket, self._carry_down)

    async def _stream(self, socket: WebSocket, carry: _Carry) -> None:
        """Open both ends of a stream, each with the greeting that Prefect's protocol wants, and close them together.

        What the box says in its greeting is not looked at: nginx knew it by its token. The stream ends within
        seconds of the token's end, and where the token file cannot be read.
        """
        box = socket.headers["x-vfleet-box"]
        try:
            token = self._tokens.read().get(box)
            await socket.accept(subprotocol="prefect")
            await socket.receive_text()
            async with self._server.open_socket(socket.url.path) as upstream:
                await socket.send_json({"type": "auth_success"})
                why = await _first_to_end(carry(box, socket, upstream), self._await_end(box, token))
            await socket.close(_POLICY_VIOLATION, why)
        except OSError as error:
            log.warning("%s: its stream ends: %s", box, error)
        except (WebSocketDisconnect, WebSocketException, httpx.HTTPError, ValueError, KeyError):
            pass  # however it ends, the box's client opens a new one and repeats what was not confirmed

    async def _await_end(self, box: str, token: str | None) -> str:
        while token is not None and self._tokens.read().get(box) == token:  # noqa: ASYNC110 - a file tells nobody of its change
            await asyncio.sleep(LOOK_S)
        return "token revoked"

    async def _carry_up(self, box: str, socket: WebSocket, upstream: ClientConnection) -> NoReturn:
        while True:
            message = await socket.receive_text()
            try:
                event = json.loads(message)
                if await self._ownership.covers(box, rules.parse_event(box, event)):
                    await upstream.send(json.dumps(event))  # as it was read, however another might read the message
                    continue
                why = "about what is not this box's"
            except ValueError as error:
                why = str(error)
            log.warning("%s refused: an event %s", box, why)

    async def _carry_down(self, box: str, socket: WebSocket, upstream: ClientConnection) -> str:
        wanted = json.loads(await socket.receive_text())
        if not rules.may_subscribe(wanted):
            log.warning("%s refused: a subscription to other events", box)
            return "not these events"
        await upstream.send(json.dumps(wanted))
        return await _first_to_end(self._pass_own(box, socket, upstream), _await_leaving(socket))

    async def _pass_own(self, box: str, socket: WebSocket, upstream: ClientConnection) -> NoReturn:
        while True:
            message = str(await upstream.recv())
            if await self._is_of_own_run(box, message):
                await socket.send_text(message)

    async def _is_of_own_run(self, box: str, message: str) -> bool:
        try:
            run = rules.find_run(json.loads(message)["event"])
        except ValueError:  # it tells of several, or is of no use to anybody
            return False
        return run is not None and await self._ownership.owns(box, run)

    async def _repeat(self, request: Request, body: bytes | None = None) -> httpx.Response:
        """Send a request on, with another body where one is given."""
        content = await request.body() if body is None else body
        return await self._server.repeat(request.method, request.url.path, httpx.Headers(request.headers.raw), content)

    @asynccontextmanager
    async def _close_at_end(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self._server.close()


async def _first_to_end(*ways: Coroutine[Any, Any, str]) -> str:
    """Wait until one of several ends, and end the others. Returns what it returned, or raises what it raised."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return ended.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _await_leaving(socket: WebSocket) -> NoReturn:
    """Read a socket on which nothing more is to be said: only so does one hear that the other side has left."""
    while True:
        await socket.receive_text()


def _box(request: Request) -> str:
    return request.headers["x-vfleet-box"]


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError:
        return None


def _refuse(box: str, what: str) -> Response:
    log.warning("%s refused: %s", box, what)
    return JSONResponse({"detail": "not for this box"}, status_code=403)


async def _ask_again(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the Prefect server does not answer"}, status_code=503)  # Prefect's client repeats


def _hand_back(answer: httpx.Response) -> Response:
    kind = answer.headers.get("content-type")
    return Response(answer.content, answer.status_code, {"content-type": kind} if kind else None)

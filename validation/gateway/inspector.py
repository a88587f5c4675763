"""Looks into what boxes send where a route alone does not say whose flow run it is about.

A flow run belongs to the box that took it: whose proposal to make it PENDING was accepted. From then on nobody else may
move it, describe it or send events about it, until it is SCHEDULED again. So a stolen token can take runs from the
queue, which come to nothing without the ledger's consent, and can disturb no other box.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from validation.domain import Seconds
from validation.gateway import rules
from validation.gateway.server import PrefectServer
from validation.gateway.tokens import TokenFile

log = logging.getLogger("vfleet.gateway")

REMEMBERED_RUNS = 10_000
"""A hundred boxes hold two hundred at a time; a forgotten one is looked up again."""
LOOK_S: Seconds = 5.0
"""How long the event stream of a revoked box may stay open."""
_POLICY_VIOLATION = 1008


class Inspector:
    """The requests and streams that nginx hands on. ``X-Vfleet-Box`` says whose they are; nobody but nginx sets it."""

    def __init__(self, server: PrefectServer, tokens: TokenFile) -> None:
        self._server, self._tokens = server, tokens
        self._owners: OrderedDict[UUID, str] = OrderedDict()

    def build_app(self) -> Starlette:
        """The application that an ASGI server serves on loopback."""
        run = "/api/flow_runs/{run:uuid}"
        return Starlette(
            routes=[
                Route(f"{run}/set_state", self.move_run, methods=["POST"]),
                Route(f"{run}/labels", self.label_run, methods=["PATCH"]),
                Route(run, self.describe_run, methods=["PATCH"]),
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
        taking = kind == "PENDING" and not await self._owns(box, run)
        if kind is None or not (await self._is_waiting(run) if taking else await self._owns(box, run)):
            return _refuse(box, f"flow run {run} is not this box's")
        answer = await self._repeat(request)
        if taking and answer.is_success and answer.json().get("status") == "ACCEPT":
            self._remember(run, box)
        return _hand_back(answer)

    async def label_run(self, request: Request) -> Response:
        """Let a box write its name on a run that it took."""
        run, box = request.path_params["run"], _box(request)
        if not rules.may_label(box, await _json(request)) or not await self._owns(box, run):
            return _refuse(box, f"these labels of flow run {run}")
        return _hand_back(await self._repeat(request))

    async def describe_run(self, request: Request) -> Response:
        """Let a box rename a run that it took, and note its process."""
        run, box = request.path_params["run"], _box(request)
        if foreign := rules.find_foreign_fields(await _json(request)):
            return _refuse(box, f"writing {', '.join(sorted(foreign))} of flow run {run}")
        if not await self._owns(box, run):
            return _refuse(box, f"flow run {run} is not this box's")
        return _hand_back(await self._repeat(request))

    async def note_heartbeat(self, request: Request) -> Response:
        """Let a box's worker show that it lives, under the box's own name."""
        box, body = _box(request), await _json(request)
        if not isinstance(body, dict) or body.get("name") != box:
            return _refuse(box, "the heartbeat of another worker")
        return _hand_back(await self._repeat(request))

    async def take_events(self, socket: WebSocket) -> None:
        """Hand on the events of a box about itself and its runs; any other is dropped, with a word in the log."""
        async with self._greeted(socket) as (box, upstream):
            async for message in socket.iter_text():
                if await self._may_tell(box, message):
                    await upstream.send(message)

    async def give_events(self, socket: WebSocket) -> None:
        """Hand a box the events that it waits for."""
        async with self._greeted(socket) as (box, upstream):
            wanted = await socket.receive_text()
            if not rules.may_hear(json.loads(wanted)):
                log.warning("%s refused: a subscription to other events", box)
                await socket.close(_POLICY_VIOLATION, "not these events")
                return
            await upstream.send(wanted)
            async for message in upstream:
                await socket.send_text(str(message))

    @asynccontextmanager
    async def _greeted(self, socket: WebSocket) -> AsyncIterator[tuple[str, ClientConnection]]:
        """Open both ends of a stream, each with the greeting that Prefect's protocol wants, and close them together.

        What the box says in its greeting is not looked at: nginx knew it by its token. The stream ends within
        seconds of the token's end.
        """
        box = socket.headers["x-vfleet-box"]
        # However it ends, the box's client opens a new one and repeats what was not confirmed.
        with suppress(WebSocketDisconnect, ConnectionClosed, httpx.HTTPError, OSError, ValueError, KeyError):
            await socket.accept(subprotocol="prefect")
            await socket.receive_text()
            async with self._server.open_socket(socket.url.path) as upstream, self._while_known(box, socket):
                await socket.send_json({"type": "auth_success"})
                yield box, upstream

    @asynccontextmanager
    async def _while_known(self, box: str, socket: WebSocket) -> AsyncIterator[None]:
        hashed = self._tokens.read().get(box)

        async def watch() -> None:
            while self._tokens.read().get(box) == hashed:  # noqa: ASYNC110 - a file tells nobody of its change
                await asyncio.sleep(LOOK_S)
            await socket.close(_POLICY_VIOLATION, "token revoked")

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, RuntimeError):  # RuntimeError: the box had closed it by then
                await watching

    async def _may_tell(self, box: str, message: str) -> bool:
        try:
            event = json.loads(message)
            told = rules.may_tell(event) and rules.is_own_worker(box, event)
            if told and all([await self._owns(box, run) for run in rules.find_runs(event)]):
                return True
            log.warning("%s refused: event %s", box, event.get("event") if isinstance(event, dict) else "of no kind")
        except ValueError:
            log.warning("%s refused: an event that is none", box)
        return False

    async def _owns(self, box: str, run: UUID) -> bool:
        if run not in self._owners:
            found = await self._server.read_run(run)
            if found is None or found.worker is None or found.state == "SCHEDULED":
                return False
            self._remember(run, found.worker)
        return self._owners[run] == box

    async def _is_waiting(self, run: UUID) -> bool:
        found = await self._server.read_run(run)
        return found is not None and found.state == "SCHEDULED"

    def _remember(self, run: UUID, box: str) -> None:
        self._owners[run] = box
        self._owners.move_to_end(run)
        while len(self._owners) > REMEMBERED_RUNS:
            self._owners.popitem(last=False)

    async def _repeat(self, request: Request) -> httpx.Response:
        return await self._server.repeat(
            request.method, request.url.path, httpx.Headers(request.headers.raw), await request.body()
        )

    @asynccontextmanager
    async def _close_at_end(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self._server.close()


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

"""The authorizing proxy: checks the requests of boxes that nginx cannot check by their route alone.

A flow run of the boxes' work pool belongs to the box that took the run: the Prefect server accepted the box's proposal
of the state PENDING. Until the run is SCHEDULED again, no other box may change, label or look up the run, write its
logs, or send or receive its events. So the holder of a stolen token can take runs from the queue of that pool, but
cannot claim videos without a box key of the ledger. The holder cannot disturb another box or the control machine.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from validation.domain import Seconds
from validation.errors import BadInput
from validation.gateway import policy
from validation.gateway.policy import MAX_MESSAGE_BYTES, BudgetSpent, WriteBudget
from validation.gateway.prefect_server import Ownership, PrefectServer
from validation.gateway.tokens import TokenFile
from validation.output import configure_logging

log = logging.getLogger("vfleet.gateway")

TOKEN_CHECK_INTERVAL_S: Seconds = 5.0
"""Seconds between two checks of a box's token. The event stream of a revoked box may stay open as long."""
_POLICY_VIOLATION = 1008
"""The code with which the proxy closes a websocket after a refusal (RFC 6455)."""

_Relay = Callable[[str, WebSocket, ClientConnection], Coroutine[Any, Any, str]]
"""A coroutine function that relays the messages of one stream.

It raises if the box or the server ends the stream. It returns the reason if the gateway ends the stream."""


class AuthorizingProxy:
    """Serves the requests and streams that nginx forwards.

    Only nginx sets the header ``X-Vfleet-Box``, which contains the worker id of the sending box.
    """

    def __init__(self, server: PrefectServer, tokens: TokenFile, pool: str) -> None:
        self._server, self._tokens = server, tokens
        self._ownership = Ownership(server, pool)
        self._budget = WriteBudget()

    def build_app(self) -> Starlette:
        """Return the ASGI application of the proxy."""
        run = "/api/flow_runs/{run:uuid}"
        return Starlette(
            routes=[
                Route(f"{run}/set_state", self.set_run_state, methods=["POST"]),
                Route(f"{run}/labels", self.set_run_labels, methods=["PATCH"]),
                Route(run, self.update_run, methods=["PATCH"]),
                Route("/api/flow_runs/filter", self.find_runs, methods=["POST"]),
                Route("/api/logs/", self.write_logs, methods=["POST"]),
                Route("/api/work_pools/{pool}/workers/heartbeat", self.record_heartbeat, methods=["POST"]),
                WebSocketRoute("/api/events/in", self.relay_client_events),
                WebSocketRoute("/api/events/out", self.relay_server_events),
            ],
            exception_handlers={httpx.HTTPError: _service_unavailable, BudgetSpent: _too_much},
            lifespan=self._close_at_end,
        )

    async def set_run_state(self, request: Request) -> Response:
        """Let a box take a waiting flow run, and change the state of a run that the box took."""
        run, box = request.path_params["run"], _box(request)
        state = policy.parse_proposed_state(await _json(request))
        taking = state == "PENDING" and not await self._ownership.owns(box, run)
        if state is None or not await (self._ownership.is_waiting(run) if taking else self._ownership.owns(box, run)):
            return _refuse(box, f"flow run {run} is not this box's")
        response = await self._forward(request)
        if taking and response.is_success and response.json().get("status") == "ACCEPT":
            self._ownership.record_assignment(run, box)
        return _to_response(response)

    async def set_run_labels(self, request: Request) -> Response:
        """Let a box write its name as a label of a flow run that the box took."""
        run, box = request.path_params["run"], _box(request)
        if not policy.may_label(box, await _json(request)) or not await self._ownership.owns(box, run):
            return _refuse(box, f"these labels of flow run {run}")
        return _to_response(await self._forward(request))

    async def update_run(self, request: Request) -> Response:
        """Let a box write the fields ``policy.RUN_FIELDS`` of a flow run that the box took."""
        run, box = request.path_params["run"], _box(request)
        if fields := policy.find_disallowed_fields(await _json(request)):
            return _refuse(box, f"writing {', '.join(sorted(fields))} of flow run {run}")
        if not await self._ownership.owns(box, run):
            return _refuse(box, f"flow run {run} is not this box's")
        return _to_response(await self._forward(request))

    async def find_runs(self, request: Request) -> Response:
        """Let a box look up flow runs that the box took. Workers look for cancellations that the stream missed."""
        box, body = _box(request), await _json(request)
        requested = policy.find_requested_runs(body)
        if requested is None:
            return _refuse(box, "a search for other flow runs")
        own = [run for run in requested if await self._ownership.owns(box, run)]
        return _to_response(await self._forward(request, json.dumps(policy.narrow_search(body, own)).encode()))

    async def write_logs(self, request: Request) -> Response:
        """Let a box write logs of its own flow runs. Lines about other runs are dropped, and their number is logged."""
        box, lines = _box(request), await _json(request)
        try:
            targets = policy.find_log_targets(lines)
        except ValueError:
            return _refuse(box, "what is no batch of logs")
        own = [
            line
            for line, target in zip(lines, targets, strict=True)
            if target is not None and await self._ownership.may_report_on(box, target)
        ]
        if len(own) < len(lines):
            log.warning("%s refused: %d lines of logs of other runs", box, len(lines) - len(own))
        return _to_response(await self._forward(request, json.dumps(own).encode()))

    async def record_heartbeat(self, request: Request) -> Response:
        """Let a box send the heartbeat of a worker that has the name of the box."""
        box, body = _box(request), await _json(request)
        if not isinstance(body, dict) or body.get("name") != box:
            return _refuse(box, "the heartbeat of another worker")
        return _to_response(await self._forward(request))

    async def relay_client_events(self, socket: WebSocket) -> None:
        """Relay a box's events about its own worker and flow runs to the server; drop and log other events."""
        await self._stream(socket, self._relay_up)

    async def relay_server_events(self, socket: WebSocket) -> None:
        """Relay the server's events about a box's own flow runs to the box."""
        await self._stream(socket, self._relay_down)

    async def _stream(self, socket: WebSocket, relay: _Relay) -> None:
        """Open the websockets to the box and to the server, relay messages, and close both websockets together.

        The authentication message of the box is not checked, because nginx checked the token of the box. The stream
        ends within ``TOKEN_CHECK_INTERVAL_S`` after the token was revoked, or when the token file cannot be read.
        """
        box = socket.headers["x-vfleet-box"]
        try:
            token = self._tokens.read().get(box)
            await socket.accept(subprotocol="prefect")
            await socket.receive_text()
            async with self._server.open_socket(socket.url.path) as upstream:
                await socket.send_json({"type": "auth_success"})
                why = await _first_to_end(relay(box, socket, upstream), self._wait_revoked(box, token))
            await socket.close(_POLICY_VIOLATION, why)
        except OSError as error:
            log.warning("%s: its stream ends: %s", box, error)
        except (WebSocketDisconnect, WebSocketException, httpx.HTTPError, ValueError, KeyError):
            pass  # the box's client opens a new stream and repeats unconfirmed events

    async def _wait_revoked(self, box: str, token: str | None) -> str:
        """Wait until the box has another token than ``token``, or none. Returns the reason for closing the stream."""
        while token is not None and self._tokens.read().get(box) == token:  # noqa: ASYNC110 - a file signals no change
            await asyncio.sleep(TOKEN_CHECK_INTERVAL_S)
        return "token revoked"

    async def _relay_up(self, box: str, socket: WebSocket, upstream: ClientConnection) -> str:
        """Relay events from the box to the server until the write budget is spent. Returns the reason for closing."""
        while True:
            message = await socket.receive_text()
            try:
                self._budget.spend(box, len(message))
                event = json.loads(message)
                if await self._ownership.may_report_on(box, policy.parse_event(box, event)):
                    await upstream.send(json.dumps(event))  # re-encoded: the server parses what the policy parsed
                    continue
                why = "about a run of another box"
            except BudgetSpent as spent:
                log.warning("%s refused: %s", box, spent)
                return "too many events"
            except (ValueError, RecursionError) as error:
                why = str(error)
            log.warning("%s refused: an event %s", box, why)

    async def _relay_down(self, box: str, socket: WebSocket, upstream: ClientConnection) -> str:
        """Relay events from the server to the box, after a check of the box's subscription."""
        subscription = json.loads(await socket.receive_text())
        if not policy.may_subscribe(subscription):
            log.warning("%s refused: a subscription to other events", box)
            return "not these events"
        await upstream.send(json.dumps(subscription))
        return await _first_to_end(self._relay_own_events(box, socket, upstream), _wait_disconnect(socket))

    async def _relay_own_events(self, box: str, socket: WebSocket, upstream: ClientConnection) -> NoReturn:
        """Send the box each event of the server that is about a flow run of the box."""
        while True:
            message = str(await upstream.recv())
            if await self._is_of_own_run(box, message):
                await socket.send_text(message)

    async def _is_of_own_run(self, box: str, message: str) -> bool:
        """Return whether a message of the server is an event about a flow run of the box."""
        try:
            run = policy.find_run(json.loads(message)["event"])
        except ValueError:  # the event has several flow runs, or is invalid
            return False
        return run is not None and await self._ownership.owns(box, run)

    async def _forward(self, request: Request, body: bytes | None = None) -> httpx.Response:
        """Forward a request to the server, with ``body`` in place of its own body if given. Returns the response.

        Raises:
            BudgetSpent: the request exceeds the write budget of the box.
        """
        content = await request.body() if body is None else body
        self._budget.spend(_box(request), len(content))
        return await self._server.forward(request.method, request.url.path, httpx.Headers(request.headers.raw), content)

    @asynccontextmanager
    async def _close_at_end(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self._server.close()


async def _first_to_end(*coroutines: Coroutine[Any, Any, str]) -> str:
    """Wait until one of the coroutines ends, and cancel the others. Returns the result of the ended coroutine.

    If the coroutine raised, its error is raised.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return ended.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_disconnect(socket: WebSocket) -> NoReturn:
    """Receive and drop messages until the client disconnects.

    Raises:
        WebSocketDisconnect: the client disconnected. Starlette reports this only to a receiver.
    """
    while True:
        await socket.receive_text()


def _box(request: Request) -> str:
    """Return the worker id of the box that sent a request."""
    return request.headers["x-vfleet-box"]


async def _json(request: Request) -> Any:
    """Return the JSON value in the body of a request; None if the body is not JSON."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


def _refuse(box: str, what: str) -> Response:
    """Log what a box was refused, and return the response with status 403."""
    log.warning("%s refused: %s", box, what)
    return JSONResponse({"detail": "not for this box"}, status_code=403)


async def _too_much(_request: Request, error: Exception) -> Response:
    """Return the status 429, after which Prefect's client waits and retries."""
    log.warning("refused: %s", error)
    return JSONResponse({"detail": "this box wrote too much"}, status_code=429)


async def _service_unavailable(_request: Request, _error: Exception) -> Response:
    """Return the status 503, after which Prefect's client retries."""
    return JSONResponse({"detail": "the Prefect server does not answer"}, status_code=503)


def _to_response(response: httpx.Response) -> Response:
    content_type = response.headers.get("content-type")
    return Response(response.content, response.status_code, {"content-type": content_type} if content_type else None)


def serve_proxy(address: str, *, server_url: str, auth_string: str, tokens: Path, pool: str) -> None:
    """Serve the proxy until a signal ends the process.

    Raises:
        BadInput: the address is not on loopback. A client that bypasses nginx could send the name of any box.
    """
    host, _, port = address.rpartition(":")
    if host not in {"127.0.0.1", "localhost"} or not port.isdecimal():
        raise BadInput(
            f"--proxy is {address!r}: it must be 127.0.0.1:PORT, because only nginx, on this machine, checks tokens"
        )
    configure_logging("%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # httpx logs every request
    app = AuthorizingProxy(PrefectServer(server_url, auth_string), TokenFile(tokens), pool).build_app()
    uvicorn.run(
        app, host=host, port=int(port), log_level="warning", access_log=False, ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
    )  # fmt: skip

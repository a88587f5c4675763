"""Client of the Prefect server behind the gateway, which authenticates with the password that no box knows."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from validation.domain import Seconds

_FORWARDED_HEADERS = frozenset(
    {"content-type", "prefect-csrf-token", "prefect-csrf-client", "user-agent", "x-prefect-api-version"}
)
"""Headers of a box's request that are sent on to the server."""
_RESPONSE_TIMEOUT_S: Seconds = 60.0
_MAX_ATTEMPTS = 5
_FIRST_PAUSE_S: Seconds = 0.5
"""Doubled between attempts, while the server answers 503 because its database is busy."""


@dataclass(frozen=True, slots=True)
class Run:
    """The facts that decide which box may change a flow run."""

    state: str
    pool: str | None
    worker: str | None
    """Name of the worker that took the run last."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """The facts that decide which box may send events about a task run."""

    run: UUID | None
    """The flow run that it belongs to."""


class PrefectServer:
    """One server, on loopback."""

    def __init__(self, url: str, auth_string: str) -> None:
        self._url, self._auth_string = url.rstrip("/"), auth_string
        basic = base64.b64encode(auth_string.encode()).decode()
        self._http = httpx.AsyncClient(
            base_url=self._url, timeout=_RESPONSE_TIMEOUT_S, headers={"Authorization": f"Basic {basic}"},
            trust_env=False,
        )  # fmt: skip

    async def close(self) -> None:
        await self._http.aclose()

    async def read_run(self, run: UUID) -> Run | None:
        """Read a flow run; None if there is none.

        Raises:
            httpx.HTTPError: the server does not answer, or answers 503 to every attempt.
        """
        found = await self._read(f"/api/flow_runs/{run}")
        if found is None:
            return None
        worker = (found.get("labels") or {}).get("prefect.worker.name")
        return Run(str(found["state_type"]), found.get("work_pool_name"), worker)

    async def read_task_run(self, task_run: UUID) -> TaskRun | None:
        """Read a task run; None if there is none.

        Raises:
            httpx.HTTPError: as ``read_run``.
        """
        found = await self._read(f"/api/task_runs/{task_run}")
        if found is None:
            return None
        run = found.get("flow_run_id")
        return TaskRun(UUID(run) if run else None)

    async def _read(self, path: str) -> dict[str, Any] | None:
        retrying = AsyncRetrying(
            retry=retry_if_result(_is_busy),
            stop=stop_after_attempt(_MAX_ATTEMPTS),
            wait=wait_exponential(multiplier=_FIRST_PAUSE_S),
            retry_error_callback=_last_response,
        )
        response: httpx.Response = await retrying(self._http.get, path)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = response.raise_for_status().json()
        return found

    async def forward(self, method: str, path: str, headers: httpx.Headers, body: bytes) -> httpx.Response:
        """Send a box's request on."""
        forwarded = {name: value for name, value in headers.items() if name in _FORWARDED_HEADERS}
        return await self._http.request(method, path, headers=forwarded, content=body)

    @asynccontextmanager
    async def open_socket(self, path: str) -> AsyncIterator[ClientConnection]:
        """Open a websocket and authenticate by the first message, as Prefect's client does."""
        address = self._url.replace("http", "ws", 1) + path
        async with connect(address, subprotocols=[Subprotocol("prefect")], proxy=None) as socket:
            await socket.send(json.dumps({"type": "auth", "token": self._auth_string}))
            answer: dict[str, Any] = json.loads(await socket.recv())
            if answer.get("type") != "auth_success":
                raise ConnectionError("the Prefect server refuses the gateway: check PREFECT_SERVER_API_AUTH_STRING")
            yield socket


def _is_busy(response: httpx.Response) -> bool:
    return response.status_code == httpx.codes.SERVICE_UNAVAILABLE


def _last_response(attempt: RetryCallState) -> httpx.Response | None:
    """The response to the last attempt, which is a 503."""
    return attempt.outcome.result() if attempt.outcome else None

"""The Prefect server behind the gateway, as the inspector speaks to it: with the password that no box knows."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from validation.domain import Seconds

_CARRIED = frozenset(
    {"content-type", "prefect-csrf-token", "prefect-csrf-client", "user-agent", "x-prefect-api-version"}
)
"""Headers of a box's request that its repetition upstream carries as well."""
_ANSWER_WITHIN_S: Seconds = 60.0
_PAUSES_S: tuple[Seconds, ...] = (0.5, 1.0, 2.0, 4.0)
"""Between questions to a server that answers 503: its database is busy, and it wants to be asked again."""


@dataclass(frozen=True, slots=True)
class Run:
    """What decides who may move a flow run."""

    state: str
    pool: str | None
    worker: str | None
    """The name by which the worker that took it last is known."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What decides who may tell of a task run."""

    run: UUID | None
    """The flow run that it is of."""


class PrefectServer:
    """One server, on loopback."""

    def __init__(self, url: str, auth_string: str) -> None:
        self._url, self._auth_string = url.rstrip("/"), auth_string
        basic = base64.b64encode(auth_string.encode()).decode()
        self._http = httpx.AsyncClient(
            base_url=self._url, timeout=_ANSWER_WITHIN_S, headers={"Authorization": f"Basic {basic}"}, trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def read_run(self, run: UUID) -> Run | None:
        """Look a flow run up; None if there is none.

        Raises:
            httpx.HTTPError: the server does not answer, or has been too busy to for a while.
        """
        found = await self._read(f"/api/flow_runs/{run}")
        if found is None:
            return None
        worker = (found.get("labels") or {}).get("prefect.worker.name")
        return Run(str(found["state_type"]), found.get("work_pool_name"), worker)

    async def read_task_run(self, task_run: UUID) -> TaskRun | None:
        """Look a task run up; None if there is none.

        Raises:
            httpx.HTTPError: as ``read_run``.
        """
        found = await self._read(f"/api/task_runs/{task_run}")
        if found is None:
            return None
        run = found.get("flow_run_id")
        return TaskRun(UUID(run) if run else None)

    async def _read(self, path: str) -> dict[str, Any] | None:
        for pause_s in _PAUSES_S:
            answer = await self._http.get(path)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            await asyncio.sleep(pause_s)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    async def repeat(self, method: str, path: str, headers: httpx.Headers, body: bytes) -> httpx.Response:
        """Send a box's request on."""
        carried = {name: value for name, value in headers.items() if name in _CARRIED}
        return await self._http.request(method, path, headers=carried, content=body)

    @asynccontextmanager
    async def open_socket(self, path: str) -> AsyncIterator[ClientConnection]:
        """Open a websocket and introduce ourselves, as Prefect's client does: by the first message."""
        address = self._url.replace("http", "ws", 1) + path
        async with connect(address, subprotocols=[Subprotocol("prefect")], proxy=None) as socket:
            await socket.send(json.dumps({"type": "auth", "token": self._auth_string}))
            answer: dict[str, Any] = json.loads(await socket.recv())
            if answer.get("type") != "auth_success":
                raise ConnectionError("the Prefect server refuses the gateway: check PREFECT_SERVER_API_AUTH_STRING")
            yield socket

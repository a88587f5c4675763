"""A client of the Prefect server behind the gateway. It authenticates with the password, which no box knows.

The owner of a flow run is read from the server once, then cached.
"""

import base64
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect

from validation.domain import Seconds
from validation.gateway.policy import EventTarget

_FORWARDED_HEADERS = frozenset(
    {"content-type", "prefect-csrf-token", "prefect-csrf-client", "user-agent", "x-prefect-api-version"}
)
"""Headers of a box's request that are forwarded to the server."""
_RESPONSE_TIMEOUT_S: Seconds = 60.0
_MAX_ATTEMPTS = 5
_FIRST_PAUSE_S: Seconds = 0.5
"""First pause between attempts, doubled per attempt, while the server answers 503 because its database is busy."""


@dataclass(frozen=True, slots=True)
class Run:
    """The fields of a flow run by which the gateway decides which box may change the run."""

    state: str
    """The type of the run's state, such as ``SCHEDULED``."""
    pool: str | None
    """The name of the run's work pool; None if it has none."""
    worker: str | None
    """The name of the worker that took the run last; None if no worker took the run."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """The field of a task run by which the gateway decides which box may send events about the task run."""

    run: UUID | None
    """The id of the flow run that the task run belongs to; None if it belongs to none."""


class PrefectServer:
    """An HTTP and websocket client of one Prefect server, which listens on loopback."""

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
        """Read a flow run; None if the server has no run with this id.

        Raises:
            httpx.HTTPError: the server does not answer, or its last answer is an error status other than 404.
        """
        found = await self._read(f"/api/flow_runs/{run}")
        if found is None:
            return None
        worker = (found.get("labels") or {}).get("prefect.worker.name")
        return Run(str(found["state_type"]), found.get("work_pool_name"), worker)

    async def read_task_run(self, task_run: UUID) -> TaskRun | None:
        """Read a task run; None if the server has no task run with this id.

        Raises:
            httpx.HTTPError: as ``read_run``.
        """
        found = await self._read(f"/api/task_runs/{task_run}")
        if found is None:
            return None
        run = found.get("flow_run_id")
        return TaskRun(UUID(run) if run else None)

    async def _read(self, path: str) -> dict[str, Any] | None:
        """Read one object of the API; None for status 404. After status 503 the request is repeated."""
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
        """Forward a box's request to the server, with the gateway's credentials. Returns the response."""
        forwarded = {name: value for name, value in headers.items() if name in _FORWARDED_HEADERS}
        return await self._http.request(method, path, headers=forwarded, content=body)

    @asynccontextmanager
    async def open_socket(self, path: str) -> AsyncIterator[ClientConnection]:
        """Open a websocket and authenticate by the first message, as Prefect's client does.

        Raises:
            ConnectionError: the server refuses the gateway's credentials.
        """
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
    """Return the response to the last attempt, a 503. tenacity calls this function after the last attempt."""
    return attempt.outcome.result() if attempt.outcome else None


CACHED_RUNS = 10_000
"""Maximum entries per cache. 100 boxes hold 200 flow runs with 13 task runs each. An evicted run is read again."""

_Value = TypeVar("_Value")


class Ownership:
    """Decides which box owns a flow run.

    A run of the boxes' work pool belongs to the box that took the run. A run of another pool belongs to no box.
    """

    def __init__(self, server: PrefectServer, pool: str) -> None:
        self._server, self._pool = server, pool
        self._box_of_run = _BoundedCache[str]()
        self._flow_run_of_task = _BoundedCache[UUID]()

    def record_assignment(self, run: UUID, box: str) -> None:
        """Cache that a box took a flow run, after the server accepted the box's proposal."""
        self._box_of_run.put(run, box)

    async def owns(self, box: str, run: UUID) -> bool:
        """Return whether a box took a flow run. A scheduled run, or a run of another pool, belongs to no box.

        The owner of a run is cached, so a run that is scheduled again later still counts as the box's.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        if run not in self._box_of_run:
            found = await self._server.read_run(run)
            if found is None or found.pool != self._pool or found.worker is None or found.state == "SCHEDULED":
                return False
            self._box_of_run.put(run, found.worker)
        return self._box_of_run[run] == box

    async def is_waiting(self, run: UUID) -> bool:
        """Return whether a box may take a flow run: the run is scheduled, in the boxes' work pool.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        found = await self._server.read_run(run)
        return found is not None and found.pool == self._pool and found.state == "SCHEDULED"

    async def may_report_on(self, box: str, target: EventTarget) -> bool:
        """Return whether a box may send an event or a log line about this target.

        It may for a flow run that the box took, alone or with a task run of it. A target without a flow run and without
        a task run is about the box's worker, and is allowed.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        if target.run is None:
            return target.task_run is None
        return await self.owns(box, target.run) and (
            target.task_run is None or await self._is_task_of(target.run, target.task_run)
        )

    async def _is_task_of(self, run: UUID, task_run: UUID) -> bool:
        """Return whether a task run belongs to a flow run. True for an unknown task run: boxes choose new ids."""
        if task_run not in self._flow_run_of_task:
            found = await self._server.read_task_run(task_run)
            if found is not None and found.run is None:
                return False
            self._flow_run_of_task.put(task_run, run if found is None or found.run is None else found.run)
        return self._flow_run_of_task[task_run] == run


class _BoundedCache(OrderedDict[UUID, _Value], Generic[_Value]):
    """A mapping that keeps the ``CACHED_RUNS`` entries that were put last."""

    def put(self, run: UUID, value: _Value) -> None:
        self[run] = value
        self.move_to_end(run)
        while len(self) > CACHED_RUNS:
            self.popitem(last=False)

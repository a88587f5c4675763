"""Which box owns a flow run: asked of the server once, then cached."""

from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

from validation.gateway.policy import EventTarget
from validation.gateway.prefect_server import PrefectServer

CACHED_RUNS = 10_000
"""100 boxes hold 200 flow runs at a time, of 13 task runs each; an evicted run is looked up again."""

_Value = TypeVar("_Value")


class Ownership:
    """A flow run of the boxes' work pool belongs to the box that took it; a run of another pool belongs to no box."""

    def __init__(self, server: PrefectServer, pool: str) -> None:
        self._server, self._pool = server, pool
        self._box_of_run = _LruCache[str]()
        self._flow_run_of_task = _LruCache[UUID]()

    def record_assignment(self, run: UUID, box: str) -> None:
        """Cache that the server gave a run to a box."""
        self._box_of_run.put(run, box)

    async def owns(self, box: str, run: UUID) -> bool:
        """Whether a box took a run, and the run is not back in the queue.

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
        """Whether a box may take a run: it is scheduled, in the boxes' work pool.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        found = await self._server.read_run(run)
        return found is not None and found.pool == self._pool and found.state == "SCHEDULED"

    async def covers(self, box: str, target: EventTarget) -> bool:
        """Whether a box may send an event about this target. An event without a run is about the box's worker.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        if target.run is None:
            return target.task_run is None
        return await self.owns(box, target.run) and (
            target.task_run is None or await self._is_task_of(target.run, target.task_run)
        )

    async def _is_task_of(self, run: UUID, task_run: UUID) -> bool:
        """Whether a task run belongs to a flow run. An unknown task run does, because boxes choose these ids."""
        if task_run not in self._flow_run_of_task:
            found = await self._server.read_task_run(task_run)
            if found is not None and found.run is None:
                return False
            self._flow_run_of_task.put(task_run, run if found is None or found.run is None else found.run)
        return self._flow_run_of_task[task_run] == run


class _LruCache(OrderedDict[UUID, _Value], Generic[_Value]):
    """The latest ``CACHED_RUNS`` entries."""

    def put(self, run: UUID, value: _Value) -> None:
        self[run] = value
        self.move_to_end(run)
        while len(self) > CACHED_RUNS:
            self.popitem(last=False)

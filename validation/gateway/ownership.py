"""Whose flow run is it? Asked of the server once, then remembered."""

from collections import OrderedDict
from typing import Generic, TypeVar
from uuid import UUID

from validation.gateway.policy import EventTarget
from validation.gateway.prefect_server import PrefectServer

REMEMBERED_RUNS = 10_000
"""A hundred boxes hold two hundred at a time, of 13 task runs each; a forgotten one is looked up again."""

_Value = TypeVar("_Value")


class Ownership:
    """A flow run of the boxes' pool belongs to the box that took it; what is of another pool is no box's, ever."""

    def __init__(self, server: PrefectServer, pool: str) -> None:
        self._server, self._pool = server, pool
        self._boxes = _Memory[str]()
        self._flow_runs = _Memory[UUID]()

    def record_assignment(self, run: UUID, box: str) -> None:
        """Remember that the server gave a box a run."""
        self._boxes.keep(run, box)

    async def owns(self, box: str, run: UUID) -> bool:
        """Whether a box took a run that is not back in the queue.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        if run not in self._boxes:
            found = await self._server.read_run(run)
            if found is None or found.pool != self._pool or found.worker is None or found.state == "SCHEDULED":
                return False
            self._boxes.keep(run, found.worker)
        return self._boxes[run] == box

    async def is_waiting(self, run: UUID) -> bool:
        """Whether a box may take a run: it waits, and in the boxes' pool.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        found = await self._server.read_run(run)
        return found is not None and found.pool == self._pool and found.state == "SCHEDULED"

    async def covers(self, box: str, told: EventTarget) -> bool:
        """Whether an event tells of nothing but what is the box's. One about no run tells of its worker.

        Raises:
            httpx.HTTPError: the server does not answer.
        """
        if told.run is None:
            return told.task_run is None
        return await self.owns(box, told.run) and (
            told.task_run is None or await self._is_task_of(told.run, told.task_run)
        )

    async def _is_task_of(self, run: UUID, task_run: UUID) -> bool:
        """Whether a task run is a flow run's. One that nobody knows becomes so: boxes draw these ids."""
        if task_run not in self._flow_runs:
            found = await self._server.read_task_run(task_run)
            if found is not None and found.run is None:
                return False
            self._flow_runs.keep(task_run, run if found is None or found.run is None else found.run)
        return self._flow_runs[task_run] == run


class _Memory(OrderedDict[UUID, _Value], Generic[_Value]):
    """What was learned of runs, the latest REMEMBERED_RUNS of it."""

    def keep(self, run: UUID, value: _Value) -> None:
        self[run] = value
        self.move_to_end(run)
        while len(self) > REMEMBERED_RUNS:
            self.popitem(last=False)

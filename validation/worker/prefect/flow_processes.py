"""The flow processes of one worker: which they are, how they are asked to finish, how they are ended."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

from anyio import CancelScope
from anyio.abc import TaskStatus

from validation.inference.protocol import socket_path


class FlowProcesses:
    """Processes that were started by `validation.child_process`: each leads a process group of its own.

    They are asked to drain by a file that does not exist before. It lies in the folder of this life of the worker: one
    that was succeeded under the same id asks its own flow runs and not its successor's.
    """

    def __init__(self, worker_id: str) -> None:
        self.drain_file = socket_path(worker_id).with_name("drain")
        self._pids: dict[UUID, int] = {}
        self._shields: set[CancelScope] = set()

    @property
    def flow_run_ids(self) -> frozenset[UUID]:
        """The flow runs whose process has started and not ended."""
        return frozenset(self._pids)

    @contextmanager
    def watch(self, flow_run_id: UUID, status: TaskStatus[int]) -> Iterator[TaskStatus[int]]:
        """Keep the pid that Prefect reports on the yielded status, until the block ends.

        The block cannot be cancelled until ``unshield``: Prefect kills the process of a run that it cancels, and it
        cancels every run when anything of its own fails.
        """
        with CancelScope(shield=True) as shield:
            self._shields.add(shield)
            try:
                yield _PidCapture(self._pids, flow_run_id, status)
            finally:
                self._pids.pop(flow_run_id, None)
                self._shields.discard(shield)

    def unshield(self) -> None:
        """Let what still waits for a flow process be cancelled, once there is nothing to lose by it."""
        for shield in self._shields:
            shield.shield = False

    def ask_to_drain(self) -> None:
        """Let every flow run, also one that starts later, know that it should finish the video in hand."""
        self.drain_file.parent.mkdir(mode=0o700, exist_ok=True)
        self.drain_file.touch()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every flow process and what it has started."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(pid, number)

    def forget_drain(self) -> None:
        self.drain_file.unlink(missing_ok=True)


class _PidCapture(TaskStatus[int]):
    """Passes on the news that a flow process has started, and keeps its pid."""

    def __init__(self, pids: dict[UUID, int], flow_run_id: UUID, heard_by: TaskStatus[int]) -> None:
        self._pids, self._flow_run_id, self._heard_by = pids, flow_run_id, heard_by

    def started(self, value: int | None = None) -> None:
        if value is not None:
            self._pids[self._flow_run_id] = value
            self._heard_by.started(value)

"""The flow processes of one worker: which they are, how they are asked to finish, how they are ended."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from anyio.abc import TaskStatus


class FlowProcesses:
    """Processes that were started by `validation.chunk.orphan`: each leads a process group of its own.

    They are asked to drain by a file that does not exist before. A worker that is killed while it drains leaves it
    behind; its next life has the same id, finds it, and forgets it before it starts anything.
    """

    def __init__(self, worker_id: str) -> None:
        self.drain_file = Path(tempfile.gettempdir()) / f"vfleet-drain-{worker_id}"
        self._pids: dict[UUID, int] = {}

    @property
    def flow_run_ids(self) -> frozenset[UUID]:
        """The flow runs whose process has started and not ended."""
        return frozenset(self._pids)

    @contextmanager
    def watch(self, flow_run_id: UUID, status: TaskStatus[int]) -> Iterator[TaskStatus[int]]:
        """Keep the pid that Prefect reports on the yielded status, until the block ends."""
        try:
            yield _Heard(self._pids, flow_run_id, status)
        finally:
            self._pids.pop(flow_run_id, None)

    def ask_to_drain(self) -> None:
        """Let every flow run, also one that starts later, know that it should finish the video in hand."""
        self.drain_file.touch()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every flow process and what it has started."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(pid, number)

    def forget_drain(self) -> None:
        self.drain_file.unlink(missing_ok=True)


class _Heard(TaskStatus[int]):
    """Passes on the news that a flow process has started, and keeps its pid."""

    def __init__(self, pids: dict[UUID, int], flow_run_id: UUID, heard_by: TaskStatus[int]) -> None:
        self._pids, self._flow_run_id, self._heard_by = pids, flow_run_id, heard_by

    def started(self, value: int | None = None) -> None:
        if value is not None:
            self._pids[self._flow_run_id] = value
            self._heard_by.started(value)

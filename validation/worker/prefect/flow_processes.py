"""The flow processes of one worker: track their pids, ask them to drain, signal them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from anyio import CancelScope
from anyio.abc import TaskStatus

from validation.inference.protocol import socket_path


class FlowProcesses:
    """Processes that were started by `validation.child_process`; each leads its own process group.

    A file asks them to drain. It lies in the folder of this worker session, so that a session which was replaced under
    the same worker id asks its own flow runs only.
    """

    def __init__(self, worker_id: str) -> None:
        self.drain_file = socket_path(worker_id).with_name("drain")
        self._pids: dict[UUID, int] = {}
        self._shields: set[CancelScope] = set()

    @property
    def flow_run_ids(self) -> frozenset[UUID]:
        """The flow runs whose process runs."""
        return frozenset(self._pids)

    @contextmanager
    def watch(self, flow_run_id: UUID, status: TaskStatus[int]) -> Iterator[TaskStatus[int]]:
        """Record the pid that Prefect reports on the yielded status, until the block ends.

        The block cannot be cancelled until ``lift_shields``: Prefect kills the process of a run that it cancels, and
        it cancels every run when one of its own tasks fails.
        """
        with CancelScope(shield=True) as shield:
            self._shields.add(shield)
            try:
                yield _PidCapture(self._pids, flow_run_id, status)
            finally:
                self._pids.pop(flow_run_id, None)
                self._shields.discard(shield)

    def lift_shields(self) -> None:
        """After the drain, let Prefect cancel its tasks that wait for flow processes."""
        for shield in self._shields:
            shield.shield = False

    def outcome_file(self, flow_run_id: UUID) -> Path:
        """The file to which a flow run writes its outcome."""
        return self.drain_file.with_name(f"outcome-{flow_run_id}.json")

    def ask_to_drain(self) -> None:
        """Ask every flow run, also one that starts later, to finish its current videos."""
        self.drain_file.parent.mkdir(mode=0o700, exist_ok=True)
        self.drain_file.touch()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every flow process and its children."""
        for pid in self._pids.values():
            with suppress(ProcessLookupError):  # it ended meanwhile
                os.killpg(pid, number)

    def clear_drain_request(self) -> None:
        """Remove the drain file."""
        self.drain_file.unlink(missing_ok=True)


class _PidCapture(TaskStatus[int]):
    """Records the pid of a flow process, and forwards it."""

    def __init__(self, pids: dict[UUID, int], flow_run_id: UUID, forward_to: TaskStatus[int]) -> None:
        self._pids, self._flow_run_id, self._forward_to = pids, flow_run_id, forward_to

    def started(self, value: int | None = None) -> None:
        if value is not None:
            self._pids[self._flow_run_id] = value
            self._forward_to.started(value)

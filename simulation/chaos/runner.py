"""Inject the planned faults while the fleet works, then wait until the queue is empty."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulation.chaos.environment import CHUNK_VIDEOS, ChaosEnvironment
from simulation.chaos.injections import Injection, inject
from simulation.chaos.ledger import count_chunks, end_backoffs
from simulation.chaos.schedule import FaultKind, PlannedFault
from simulation.chaos.standstill import StallDetector
from validation.domain import Seconds
from validation.errors import FleetError, Permanent
from validation.ledger.queries import read_open_chunks, read_view, read_workload

TICK_S: Seconds = 0.2
REPORT_INTERVAL_S: Seconds = 10.0
FEED_INTERVAL_S: Seconds = 2.0
LOOK_INTERVAL_S: Seconds = 1.0
LOW_WATER = 4 * CHUNK_VIDEOS
"""If fewer videos than this are claimable, more videos are queued, because faults have no effect on an idle fleet."""
EXTRA_S: Seconds = 300.0
"""Maximum extension of a run, in seconds, while a kind of fault has found no target."""
MIN_GAP_S: Seconds = 2.0
"""Minimum seconds between two injections. The second of two simultaneous faults on one box would have no effect."""

Report = Callable[[str], None]


@dataclass(slots=True)
class RunRecord:
    """The record of a run: injected faults, faults without a target, standstills and the time to drain."""

    injections: list[Injection] = field(default_factory=list)
    missed: list[PlannedFault] = field(default_factory=list)
    """Planned faults that were not injected because they found no target."""
    standstill: StallDetector = field(default_factory=StallDetector)
    drained_s: Seconds | None = None
    """Seconds from the last fault until the queue was empty; None if the queue did not become empty."""


def find_unproven(record: RunRecord) -> list[FaultKind]:
    """Return the kinds of fault that were planned but never injected. The run did not test these kinds."""
    injected = {injection.fault.kind for injection in record.injections}
    return list(dict.fromkeys(fault.kind for fault in record.missed if fault.kind not in injected))


class NoChunkClaimed(Permanent):
    """No worker claimed a chunk before the first fault."""

    def __init__(self, timeout_s: Seconds) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"no chunk was claimed within {timeout_s:.0f} s: see the logs of the boxes and of Prefect")


class ChaosRunner:
    """Injects faults at their planned times, and restarts dead workers as the init of a box does."""

    def __init__(self, environment: ChaosEnvironment, plan: Sequence[PlannedFault], report: Report) -> None:
        self.record = RunRecord()
        self._environment, self._plan, self._report = environment, list(plan), report
        self._last_injection_s = -MIN_GAP_S
        self._active: list[Injection] = []
        self._started = time.monotonic()
        self._due: dict[str, Seconds] = {}

    def await_work(self, *, timeout_s: Seconds) -> None:
        """Start the boxes, and wait until one of them has claimed a chunk. Faults have no effect on an idle fleet.

        Raises:
            NoChunkClaimed: no worker claimed a chunk within ``timeout_s``.
        """
        while not read_open_chunks(self._environment.engine):
            if self._now_s() > timeout_s:
                raise NoChunkClaimed(timeout_s)
            self._environment.restart_dead_workers()
            time.sleep(TICK_S)
        self._log("the first chunk is claimed")
        self._started = time.monotonic()

    def inject_all(self, *, duration_s: Seconds) -> None:
        """Inject the planned faults for ``duration_s``, and keep the queue filled.

        The run is extended by up to ``EXTRA_S`` while a kind of fault has found no target.
        """
        while (now_s := self._now_s()) < duration_s + (EXTRA_S if self._untried() else 0.0) or self._active:
            if now_s >= duration_s:
                self._drop_repeated()
            self._inject_next(now_s)
            self._undo_due()
            self._environment.restart_dead_workers()
            self._every("feed", FEED_INTERVAL_S, self._feed)
            self._every("report", REPORT_INTERVAL_S, self._report_progress)
            self._every("look", LOOK_INTERVAL_S, self._look_for_standstill)
            time.sleep(TICK_S)
        self.record.missed += self._plan

    def _untried(self) -> list[PlannedFault]:
        """Return the planned faults whose kind was not injected yet."""
        injected = {injection.fault.kind for injection in self.record.injections}
        return [fault for fault in self._plan if fault.kind not in injected]

    def _drop_repeated(self) -> None:
        """Remove the remaining faults whose kind was injected before from the plan, and record them as missed."""
        untried = self._untried()
        self.record.missed += [fault for fault in self._plan if fault not in untried]
        self._plan = untried

    def drain(self, *, timeout_s: Seconds) -> None:
        """Wait without further faults until the queue is empty, or until ``timeout_s`` has passed."""
        started = time.monotonic()
        while time.monotonic() - started < timeout_s:
            self._environment.restart_dead_workers()
            self._every("report", REPORT_INTERVAL_S, self._report_progress)
            self._every("look", LOOK_INTERVAL_S, self._look_for_standstill)
            try:
                if self._is_drained():
                    self.record.drained_s = time.monotonic() - started
                    return
            except FleetError:
                continue  # Postgres is still starting
            finally:
                time.sleep(TICK_S)

    def _inject_next(self, now_s: Seconds) -> None:
        """Inject the first fault that is due and has a target."""
        due = (
            [fault for fault in self._plan if fault.at_s <= now_s]
            if now_s >= self._last_injection_s + MIN_GAP_S
            else []
        )
        for fault in due:
            injection = self._try(fault)
            if injection is not None:
                self._plan.remove(fault)
                self._active.append(injection)
                self.record.injections.append(injection)
                self._last_injection_s = now_s
                chunks = f", {len(injection.chunks)} chunks" if injection.chunks else ""
                duration = f" for {fault.duration_s:.0f} s" if fault.duration_s else ""
                self._log(f"[bold red]{fault.kind}[/]{duration}: {injection.target}{chunks}")
                return

    def _try(self, fault: PlannedFault) -> Injection | None:
        try:
            return inject(self._environment, fault)
        except FleetError:  # the ledger does not answer, so no target can be found
            return None

    def _undo_due(self) -> None:
        for injection in [i for i in self._active if time.time() >= i.injected_at + i.fault.duration_s]:
            injection.undo()
            self._active.remove(injection)

    def _feed(self) -> None:
        if self._environment.backlog or read_workload(self._environment.engine).claimable_videos < LOW_WATER:
            self._environment.queue_videos(CHUNK_VIDEOS)

    def _is_drained(self) -> bool:
        environment = self._environment
        if environment.backlog:
            environment.queue_backlog()
        self._every("back-offs", FEED_INTERVAL_S, lambda: end_backoffs(environment.engine))
        (row,) = read_view(environment.engine, "fleet_overview")
        return not (row["pending"] or row["validating"])

    def _every(self, what: str, period_s: Seconds, act: Callable[[], object]) -> None:
        if (now_s := self._now_s()) >= self._due.get(what, 0.0):
            self._due[what] = now_s + period_s
            try:
                act()
            except FleetError:
                self._due[what] = now_s + 1  # the ledger is down: try again soon

    def _look_for_standstill(self) -> None:
        workload = read_workload(self._environment.engine)
        self.record.standstill.observe(
            self._now_s(),
            claims=count_chunks(self._environment.engine),
            is_work_waiting=workload.claimable_videos > 0,
            is_worker_up=any(box.is_up for box in self._environment.boxes),
        )

    def _report_progress(self) -> None:
        (row,) = read_view(self._environment.engine, "fleet_overview")
        up = sum(box.is_up for box in self._environment.boxes)
        self._log(
            f"{row['validated']} validated, {row['failed']} failed, {row['pending']} pending, {row['validating']} in "
            f"{row['chunks_open']} open chunks; {row['chunks_committed']} chunks committed, {row['chunks_expired']} "
            f"taken back; {up} workers up"
        )

    def _log(self, sentence: str) -> None:
        self._report(f"{self._now_s():5.0f} s  {sentence}")

    def _now_s(self) -> Seconds:
        return time.monotonic() - self._started

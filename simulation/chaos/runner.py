"""Carries a plan out under load, then lets the queue drain."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulation.chaos.environment import CHUNK_VIDEOS, ChaosEnvironment
from simulation.chaos.injections import Injection, inject
from simulation.chaos.ledger import end_backoffs
from simulation.chaos.schedule import PlannedFault
from validation.domain import Seconds
from validation.errors import FleetError, Permanent
from validation.ledger.queries import read_open_chunks, read_view, read_workload

TICK_S: Seconds = 0.2
TOLD_EVERY_S: Seconds = 10.0
FED_EVERY_S: Seconds = 2.0
LOW_WATER = 4 * CHUNK_VIDEOS
"""Claimable videos below which more are queued while faults strike: an idle fleet survives everything."""
PATIENCE_S: Seconds = 45.0
"""How long beyond their time faults wait for a victim: others may have left the fleet without work for a while."""
GAP_S: Seconds = 2.0
"""Between two faults that waited for the same victim: struck at once, the second would prove nothing."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Record:
    """What was done to the fleet."""

    strikes: list[Injection] = field(default_factory=list)
    missed: list[PlannedFault] = field(default_factory=list)
    """Faults that found no victim."""
    drained_s: Seconds | None = None
    """From the last fault to an empty queue; None if it did not come to that."""


def find_unproven(record: Record) -> list[str]:
    """Kinds of fault that were planned and never struck, one sentence each: of those the run proves nothing."""
    struck = {inject.fault.kind for inject in record.strikes}
    missed = dict.fromkeys(fault.kind for fault in record.missed if fault.kind not in struck)
    return [f"proves nothing of {kind.value!r}: it found no victim" for kind in missed]


class NoWorkBegan(Permanent):
    """The fleet did not begin to work in calm weather."""

    def __init__(self, within_s: Seconds) -> None:
        self.within_s = within_s
        super().__init__(f"no chunk was claimed within {within_s:.0f} s: see the logs of the boxes and of Prefect")


class ChaosRunner:
    """Strikes when the plan says so, and is everybody's init meanwhile."""

    def __init__(self, stage: ChaosEnvironment, plan: Sequence[PlannedFault], tell: Tell) -> None:
        self.record = Record()
        self._stage, self._plan, self._tell = stage, list(plan), tell
        self._struck_s = -GAP_S
        self._waiting: list[Injection] = []
        self._began = time.monotonic()
        self._due: dict[str, Seconds] = {}

    def await_work(self, *, within_s: Seconds) -> None:
        """Start the boxes, and wait until one of them holds a chunk: faults that meet no work prove nothing.

        Raises:
            NoWorkBegan: none did in time.
        """
        while not read_open_chunks(self._stage.engine):
            if self._now_s() > within_s:
                raise NoWorkBegan(within_s)
            self._stage.tend()
            time.sleep(TICK_S)
        self._say("the first chunk is claimed")
        self._began = time.monotonic()

    def strike_all(self, *, duration_s: Seconds) -> None:
        """Carry out the plan, with a queue that never runs empty."""
        while (now_s := self._now_s()) < duration_s + (PATIENCE_S if self._plan else 0.0) or self._waiting:
            self._strike_next(now_s)
            self._heal()
            self._stage.tend()
            self._every("feed", FED_EVERY_S, self._feed)
            self._every("tell", TOLD_EVERY_S, self._tell_progress)
            time.sleep(TICK_S)
        self.record.missed += self._plan

    def drain(self, *, within_s: Seconds) -> None:
        """Let the fleet finish in calm weather."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            self._stage.tend()
            self._every("tell", TOLD_EVERY_S, self._tell_progress)
            try:
                if self._is_drained():
                    self.record.drained_s = time.monotonic() - began
                    return
            except FleetError:
                continue  # Postgres is still starting
            finally:
                time.sleep(TICK_S)

    def _strike_next(self, now_s: Seconds) -> None:
        """Strike with the first fault whose time has come and that finds a victim."""
        due = [fault for fault in self._plan if fault.at_s <= now_s] if now_s >= self._struck_s + GAP_S else []
        for fault in due:
            struck = self._try(fault)
            if struck is not None:
                self._plan.remove(fault)
                self._waiting.append(struck)
                self.record.strikes.append(struck)
                self._struck_s = now_s
                chunks = f", {len(struck.chunks)} chunks" if struck.chunks else ""
                lasts = f" for {fault.lasts_s:.0f} s" if fault.lasts_s else ""
                self._say(f"[bold red]{fault.kind}[/]{lasts}: {struck.whom}{chunks}")
                return

    def _try(self, fault: PlannedFault) -> Injection | None:
        try:
            return inject(self._stage, fault)
        except FleetError:  # the ledger is away, and cannot tell who works
            return None

    def _heal(self) -> None:
        for struck in [s for s in self._waiting if time.time() >= s.struck_at + s.fault.lasts_s]:
            struck.heal()
            self._waiting.remove(struck)

    def _feed(self) -> None:
        if self._stage.backlog or read_workload(self._stage.engine).claimable_videos < LOW_WATER:
            self._stage.queue_videos(CHUNK_VIDEOS)

    def _is_drained(self) -> bool:
        stage = self._stage
        if stage.backlog:
            stage.queue_backlog()
        self._every("back-offs", FED_EVERY_S, lambda: end_backoffs(stage.engine))
        (row,) = read_view(stage.engine, "fleet_overview")
        return not (row["pending"] or row["validating"])

    def _every(self, what: str, period_s: Seconds, act: Callable[[], object]) -> None:
        if (now_s := self._now_s()) >= self._due.get(what, 0.0):
            self._due[what] = now_s + period_s
            try:
                act()
            except FleetError:
                self._due[what] = now_s + 1  # the ledger is away: soon again

    def _tell_progress(self) -> None:
        (row,) = read_view(self._stage.engine, "fleet_overview")
        up = sum(box.is_up for box in self._stage.boxes)
        self._say(
            f"{row['validated']} validated, {row['failed']} failed, {row['pending']} pending, {row['validating']} in "
            f"{row['chunks_open']} open chunks; {row['chunks_committed']} chunks committed, {row['chunks_expired']} "
            f"taken back; {up} workers up"
        )

    def _say(self, sentence: str) -> None:
        self._tell(f"{self._now_s():5.0f} s  {sentence}")

    def _now_s(self) -> Seconds:
        return time.monotonic() - self._began

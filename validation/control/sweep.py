"""The sweep: take chunks back from dead holders, and delete the objects that these holders left.

The videos of a lost box are claimable within two minutes. This does not depend on the schedule of the sweep, because
each claim also takes back the chunks whose lease (75 s) has expired. The sweep runs every two minutes. It takes back
the other expired chunks, marks workers `stale` after 75 s without a heartbeat (``HEARTBEAT_TIMEOUT_S``) and marks
their flow runs Crashed. Both states are correct within four minutes after the loss. If only the flow process dies, its
chunk is taken back after half a lease without a renewal, once Prefect reports the end of the run.
``tests/control/test_promised_times.py`` adds up these times.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.domain import Seconds
from validation.errors import FleetError, Transient
from validation.ledger.canaries import read_pending_canaries
from validation.ledger.maintenance import (
    SweptChunk,
    end_box_sessions,
    mark_stale_workers,
    requeue_stranded_videos,
    sweep_stale_claims,
)
from validation.ledger.queries import OpenChunk, read_open_chunks, read_workload

if TYPE_CHECKING:
    from validation.canaries.evaluate import EvaluatedCanary
    from validation.control.witness import SettledFailure, VideoReader

log = logging.getLogger(__name__)


Outcome = TypeVar("Outcome")
EndedRunsLookup = Callable[[Sequence[OpenChunk]], Mapping[UUID, Seconds]]
"""A function that returns the ended flow runs of open chunks: flow run id -> seconds since the end.

The result is empty if Prefect does not answer."""


class SweepIncomplete(Transient):
    """Steps of a sweep failed. The other steps were done; the next sweep repeats all steps."""

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{len(failures)} steps of the sweep failed: {'; '.join(failures)}")


@dataclass(slots=True)
class SweepReport:
    """The changes and failures of one sweep."""

    swept: list[SweptChunk] = field(default_factory=list)
    locked: Sequence[OpenChunk] = ()
    """Chunks with an expired lease that could not be taken back, because a call that does not end locks their rows."""
    stranded_videos: int = 0
    stale_workers: Sequence[str] = ()
    """Workers that became stale."""
    evaluated: "Sequence[EvaluatedCanary]" = ()
    settled: "Sequence[SettledFailure]" = ()
    """Failures reported by boxes of only one owner that the control plane confirmed or refuted."""
    ended_sessions: int = 0
    """Number of ended database sessions of boxes: each had a long or idle transaction, or held an advisory lock."""
    orphans: Sequence[str] = ()
    """Keys of the deleted orphans."""
    unknown_shards: Sequence[str] = ()
    """Keys of shards that this ledger does not know (`Strays.unknown`). `vfleet repair` can record them again."""
    failures: list[str] = field(default_factory=list)
    """One line per failed step, with its error. The other steps were done."""

    @property
    def is_empty(self) -> bool:
        """Return whether the sweep took no chunk back, requeued no video, marked no worker and deleted no object."""
        return not (self.swept or self.stranded_videos or self.stale_workers or self.orphans)

    def run_step(self, name: str, step: Callable[[], Outcome], otherwise: Outcome) -> Outcome:
        """Run one step and return its result. If it raises a FleetError, record the error and return ``otherwise``."""
        try:
            return step()
        except FleetError as error:
            log.warning("sweep: %s: %s", name, error)
            self.failures.append(f"{name}: {error}")
            return otherwise

    def raise_if_incomplete(self) -> None:
        """Raise ``SweepIncomplete`` if a step failed."""
        if self.failures:
            raise SweepIncomplete(self.failures)


def sweep(
    engine: Engine,
    results: ObjectStore,
    *,
    orphans: bool = True,
    find_ended: EndedRunsLookup = lambda _: {},
    read_video: "VideoReader | None" = None,
) -> SweepReport:
    """Run all steps of one sweep. Sweeps may be repeated and may run concurrently.

    A failed step is recorded in the report and does not stop the later steps.

    Args:
        engine: the ledger.
        results: the results bucket.
        orphans: whether to look for orphans too. The search lists the whole results store.
        find_ended: asks Prefect for ended flow runs. Prefect may be slow or unreachable, so chunks with an expired
            lease are taken back first.
        read_video: reads a video that boxes of only one owner have failed; None leaves these videos to
            `report-progress`.
    """
    report = SweepReport()
    run_step, swept = report.run_step, report.swept
    report.ended_sessions = run_step("sessions", lambda: end_box_sessions(engine), 0)
    swept += run_step("leases", lambda: sweep_stale_claims(engine), [])
    none_open: list[OpenChunk] = []
    held = run_step("open chunks", lambda: read_open_chunks(engine), none_open)
    if ended := find_ended(held):
        swept += run_step("ended runs", lambda: sweep_stale_claims(engine, ended_runs=ended), [])
    taken = {chunk.chunk_id for chunk in swept}
    report.locked = [chunk for chunk in held if chunk.lease_left_s < 0 and chunk.chunk_id not in taken]
    report.stranded_videos = run_step("stranded videos", lambda: requeue_stranded_videos(engine), 0)
    report.stale_workers = run_step("stale workers", lambda: mark_stale_workers(engine), [])
    report.evaluated = run_step("canaries", lambda: evaluate_canaries(engine, results), ())
    if read_video is not None:
        report.settled = run_step("failures", lambda: settle_failures(engine, read_video), ())
    if orphans:
        run_step("orphans", lambda: remove_orphans(engine, results, report), None)
    unknown: Seconds | None = 0.0
    if orphans or held or run_step("workload", lambda: read_workload(engine).chunk_s, unknown) is not None:
        run_step("catalogue", lambda: publish_catalogue(engine, results), None)
    return report


# The import of pyarrow would take a third of the time of a sweep without work: these steps import it only if needed.


def evaluate_canaries(engine: Engine, results: ObjectStore) -> "Sequence[EvaluatedCanary]":
    """Evaluate the committed canaries that were not evaluated yet. A wrong answer can quarantine a box."""
    if not read_pending_canaries(engine):
        return ()
    from validation.canaries import evaluate  # noqa: PLC0415

    return evaluate.evaluate_canaries(engine, results)


def settle_failures(engine: Engine, read_video: "VideoReader") -> "Sequence[SettledFailure]":
    """Read the objects of videos that boxes of only one owner have failed, and confirm or refute the failures."""
    from validation.control.witness import witness_failures  # noqa: PLC0415

    return witness_failures(engine, read_video)


def remove_orphans(engine: Engine, results: ObjectStore, report: SweepReport) -> None:
    """Delete the orphans. Records their keys and the keys of shards of unknown chunks in the report."""
    from validation.control.audit import delete_objects, find_strays  # noqa: PLC0415

    strays = find_strays(engine, results)
    report.unknown_shards = strays.unknown
    report.orphans = delete_objects(results, strays.orphans)


def publish_catalogue(engine: Engine, results: ObjectStore) -> None:
    """Write the catalogue if the committed shards have changed and the last catalogue is older than one minute."""
    from validation.control import catalogue  # noqa: PLC0415

    catalogue.publish_catalogue(engine, results, min_interval=catalogue.MIN_INTERVAL)

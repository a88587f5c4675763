"""The sweep: take chunks back from dead holders, and delete the objects that they left.

A lost box is noticed within two minutes. Its chunks are claimable again after their lease (75 s), and its worker is
`stale` after as long (``HEARTBEAT_TIMEOUT_S``), both at the next sweep, which comes every 20 s and takes up to 10 s to
start on a busy machine: 105 s in all. The same sweep marks its flow runs Crashed. A flow process that dies while its
worker lives is noticed sooner: after half a lease without a renewal, once Prefect reports the end of the run.
``tests/control/test_promised_times.py`` adds these times up from what is deployed.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.canaries.evaluate import EvaluatedCanary, evaluate_canaries
from validation.control.catalogue import MIN_INTERVAL, publish_catalogue
from validation.domain import Seconds
from validation.errors import FleetError, Transient
from validation.ledger.maintenance import SweptChunk, mark_stale_workers, requeue_stranded_videos, sweep_stale_claims
from validation.ledger.queries import OpenChunk, read_committed_shards, read_open_chunks, read_retired_shards
from validation.shards.naming import shard_key, sibling_key
from validation.storage.store import delete_object, list_objects

log = logging.getLogger(__name__)

ORPHAN_MARGIN = timedelta(hours=1)
"""How old an object must be before it can be an orphan: more than the clock of any object store is wrong."""

Outcome = TypeVar("Outcome")
EndedRunsLookup = Callable[[Sequence[OpenChunk]], Mapping[UUID, Seconds]]
"""Open chunks -> those of their flow runs that have ended, with the seconds since; empty if Prefect does not answer."""


class SweepIncomplete(Transient):
    """Steps of a sweep failed. The other steps were done, and the next sweep repeats all of them."""

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{len(failures)} steps of the sweep failed: {'; '.join(failures)}")


@dataclass(slots=True)
class SweepReport:
    """What a sweep did."""

    swept: list[SweptChunk] = field(default_factory=list)
    locked: Sequence[OpenChunk] = ()
    """Chunks with an expired lease that could not be taken back, because a call that does not end has locked them."""
    stranded_videos: int = 0
    stale_workers: Sequence[str] = ()
    """Workers that became stale."""
    evaluated: Sequence[EvaluatedCanary] = ()
    orphans: Sequence[str] = ()
    """Keys of the objects that were deleted."""
    failures: list[str] = field(default_factory=list)
    """Which steps failed, and why. The other steps were done."""

    @property
    def is_empty(self) -> bool:
        return not (self.swept or self.stranded_videos or self.stale_workers or self.orphans)

    def run_step(self, name: str, step: Callable[[], Outcome], otherwise: Outcome) -> Outcome:
        """Run one step; if it fails, record that and return ``otherwise``."""
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
    engine: Engine, results: ObjectStore, *, orphans: bool = True, find_ended: EndedRunsLookup = lambda _: {}
) -> SweepReport:
    """Sweep once. Safe to repeat, and to run beside another sweep.

    Args:
        engine: the ledger.
        results: the results bucket.
        orphans: whether to look for orphans too, which lists all shards.
        find_ended: asks Prefect, which may be slow or unreachable: expired leases are taken back before.
    """
    report = SweepReport()
    run_step, swept = report.run_step, report.swept
    swept += run_step("leases", lambda: sweep_stale_claims(engine), [])
    none_open: list[OpenChunk] = []
    held = run_step("open chunks", lambda: read_open_chunks(engine), none_open)
    if ended := find_ended(held):
        swept += run_step("ended runs", lambda: sweep_stale_claims(engine, ended_runs=ended), [])
    taken = {chunk.chunk_id for chunk in swept}
    report.locked = [chunk for chunk in held if chunk.lease_left_s < 0 and chunk.chunk_id not in taken]
    report.stranded_videos = run_step("stranded videos", lambda: requeue_stranded_videos(engine), 0)
    report.stale_workers = run_step("stale workers", lambda: mark_stale_workers(engine), [])
    report.evaluated = run_step("canaries", lambda: evaluate_canaries(engine, results), [])
    if orphans:
        report.orphans = run_step("orphans", lambda: delete_orphans(engine, results), [])
    run_step("catalogue", lambda: publish_catalogue(engine, results, min_interval=MIN_INTERVAL), None)
    return report


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Keys of the objects under ``shards/`` that belong to no committed shard and to no open chunk.

    The bucket is listed before the ledger is read, and open chunks are read before committed shards: a shard that is
    uploaded or committed in between is found in one of the two.
    """
    before = datetime.now(UTC) - margin
    listed = [item.key for item in list_objects(results, "shards") if item.modified_at < before]
    if not listed:
        return []
    owned = {shard_key(chunk.worker_id, chunk.shard_number) for chunk in read_open_chunks(engine)}
    owned |= {shard.shard_key for shard in read_committed_shards(engine)}
    # Read after the committed shards: a shard may retire meanwhile, and is never current again.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {sibling_key(key) for key in owned}
    return sorted(set(listed) - owned)


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Delete the orphans. Returns their keys."""
    orphans = find_orphans(engine, results, margin=margin)
    for key in orphans:
        delete_object(results, key)
    return orphans

"""Take back what dead holders held, and clear away what they left.

How long a loss goes unnoticed. A box that vanishes is silent from then on; its chunks are claimable again after its
lease (75 s) and the worker is `stale` after as long (``HEARTBEAT_TIMEOUT_S``), both when the next sweep comes (every
20 s) and has
started (10 s on a busy machine). That makes 105 s, and its flow runs are marked Crashed by the same sweep: the truth
within two minutes. A flow process that dies while its worker lives is known sooner, by the worker's word and half a
lease without a renewal. ``tests/control/test_promised_times.py`` adds it up.
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
from validation.domain import Seconds
from validation.errors import FleetError, Transient
from validation.ledger.maintenance import SweptChunk, mark_stale_workers, requeue_stranded_videos, sweep_stale_claims
from validation.ledger.queries import OpenChunk, read_committed_shards, read_open_chunks, read_retired_shards
from validation.shards.naming import shard_key
from validation.storage.store import delete_object, list_objects

log = logging.getLogger(__name__)

ORPHAN_MARGIN = timedelta(hours=1)
"""How old an object must be before it can be an orphan. Longer than any clock of a store is wrong."""

Outcome = TypeVar("Outcome")
EndedRunsLookup = Callable[[Sequence[OpenChunk]], Mapping[UUID, Seconds]]
"""Which of the flow runs that hold chunks have ended, and how long ago; none where nobody can tell."""


class SweepIncomplete(Transient):
    """Steps of a sweep failed; the others were done, and the next sweep tries all again."""

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__(f"{len(failures)} steps of the sweep failed: {'; '.join(failures)}")


@dataclass(slots=True)
class SweepReport:
    """What a sweep did."""

    swept: list[SweptChunk] = field(default_factory=list)
    locked: Sequence[OpenChunk] = ()
    """Chunks whose lease has ended and that could not be taken: a call that does not end has locked them."""
    stranded_videos: int = 0
    silent_workers: Sequence[str] = ()
    judged: Sequence[EvaluatedCanary] = ()
    orphans: Sequence[str] = ()
    """Objects that were deleted."""
    failures: list[str] = field(default_factory=list)
    """What could not be done, and why: no step depends on another's success."""

    @property
    def is_empty(self) -> bool:
        return not (self.swept or self.stranded_videos or self.silent_workers or self.orphans)

    def attempt(self, what: str, step: Callable[[], Outcome], otherwise: Outcome) -> Outcome:
        """Take one step; note its failure."""
        try:
            return step()
        except FleetError as error:
            log.warning("sweep: %s: %s", what, error)
            self.failures.append(f"{what}: {error}")
            return otherwise

    def raise_if_incomplete(self) -> None:
        """Raises ``SweepIncomplete`` if a step failed."""
        if self.failures:
            raise SweepIncomplete(self.failures)


def sweep(
    engine: Engine, results: ObjectStore, *, orphans: bool = True, find_ended: EndedRunsLookup = lambda _: {}
) -> SweepReport:
    """Sweep once, by the clock first. Safe to repeat and to run beside another.

    Args:
        engine: the ledger.
        results: where shards lie.
        orphans: whether to look for orphans too: to find them, all shards are listed.
        find_ended: asks the orchestrator, which may take its time or not answer: the clock alone has decided by then.
    """
    report = SweepReport()
    attempt, swept = report.attempt, report.swept
    swept += attempt("leases", lambda: sweep_stale_claims(engine), [])
    nobody: list[OpenChunk] = []
    held = attempt("open chunks", lambda: read_open_chunks(engine), nobody)
    if ended := find_ended(held):
        swept += attempt("ended runs", lambda: sweep_stale_claims(engine, ended_runs=ended), [])
    taken = {chunk.chunk_id for chunk in swept}
    report.locked = [chunk for chunk in held if chunk.lease_left_s < 0 and chunk.chunk_id not in taken]
    report.stranded_videos = attempt("stranded videos", lambda: requeue_stranded_videos(engine), 0)
    report.silent_workers = attempt("silent workers", lambda: mark_stale_workers(engine), [])
    report.judged = attempt("canaries", lambda: evaluate_canaries(engine, results), [])
    if orphans:
        report.orphans = attempt("orphans", lambda: delete_orphans(engine, results), [])
    return report


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Name the objects under ``shards/`` that no committed chunk owns and no open one may yet commit.

    The store is listed before the ledger is read, and open chunks before committed ones: what is uploaded or committed
    in between is found in one of them.
    """
    before = datetime.now(UTC) - margin
    listed = [item.key for item in list_objects(results, "shards") if item.modified_at < before]
    if not listed:
        return []
    owned = {shard_key(chunk.worker_id, chunk.shard_number) for chunk in read_open_chunks(engine)}
    owned |= {shard.shard_key for shard in read_committed_shards(engine)}
    # Read after the committed ones: a shard retires, and never returns.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {key.replace(".parquet", ".manifest.json") for key in owned}
    return sorted(set(listed) - owned)


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> list[str]:
    """Delete what ``find_orphans`` names. Returns it."""
    orphans = find_orphans(engine, results, margin=margin)
    for key in orphans:
        delete_object(results, key)
    return orphans

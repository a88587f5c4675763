"""The sweep: take chunks back from dead holders, and delete the objects that they left.

A lost box is noticed within two minutes. Its chunks are claimable again after their lease (75 s), and its worker is
`stale` after as long (``HEARTBEAT_TIMEOUT_S``), both at the next sweep, which comes every 20 s and takes up to 10 s to
start on a busy machine: 105 s in all. The same sweep marks its flow runs Crashed. A flow process that dies while its
worker lives is noticed sooner: after half a lease without a renewal, once Prefect reports the end of the run.
``tests/control/test_promised_times.py`` adds these times up from what is deployed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.canaries.evaluate import EvaluatedCanary, evaluate_canaries
from validation.control.catalogue import MIN_INTERVAL, publish_catalogue
from validation.control.witness import SettledFailure, VideoReader, witness_failures
from validation.domain import Seconds
from validation.errors import FleetError, Permanent, Transient
from validation.ledger.maintenance import (
    SweptChunk,
    end_box_sessions,
    find_unknown_chunks,
    mark_stale_workers,
    requeue_stranded_videos,
    sweep_stale_claims,
)
from validation.ledger.queries import OpenChunk, read_committed_shards, read_open_chunks, read_retired_shards
from validation.shards.bucket import read_manifest
from validation.shards.manifest import ShardManifest
from validation.shards.naming import shard_key, sibling_key
from validation.storage.store import delete_object, list_objects

log = logging.getLogger(__name__)

READERS = 8
"""Shards or manifests read at a time."""
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
    settled: Sequence[SettledFailure] = ()
    """Failures of one box that the control plane looked at."""
    ended_sessions: int = 0
    """Sessions of boxes that were ended, because their transaction did not end."""
    orphans: Sequence[str] = ()
    """Keys of the objects that were deleted."""
    unknown_shards: Sequence[str] = ()
    """Keys of complete shards whose chunks this ledger does not know: `vfleet repair` decides about them."""
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
    engine: Engine,
    results: ObjectStore,
    *,
    orphans: bool = True,
    find_ended: EndedRunsLookup = lambda _: {},
    read_video: VideoReader | None = None,
) -> SweepReport:
    """Sweep once. Safe to repeat, and to run beside another sweep.

    Args:
        engine: the ledger.
        results: the results bucket.
        orphans: whether to look for orphans too, which lists all shards.
        find_ended: asks Prefect, which may be slow or unreachable: expired leases are taken back before.
        read_video: reads a video that only one box has failed; None to leave those to other boxes.
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
    report.evaluated = run_step("canaries", lambda: evaluate_canaries(engine, results), [])
    if read_video is not None:
        report.settled = run_step("failures", lambda: witness_failures(engine, read_video), [])
    if orphans:
        strays = run_step("orphans", lambda: find_strays(engine, results), Strays((), ()))
        report.orphans = run_step("orphans", lambda: _delete(results, strays.orphans), ())
        report.unknown_shards = strays.unknown
    run_step("catalogue", lambda: publish_catalogue(engine, results, min_interval=MIN_INTERVAL), None)
    return report


@dataclass(frozen=True, slots=True)
class Strays:
    """Keys of the objects under ``shards/`` that belong to no committed shard and to no open chunk."""

    orphans: Sequence[str]
    """Of chunks that this ledger knows and that left no shard; of uploads that were cut off; of cut-off compactions."""
    unknown: Sequence[str]
    """Complete shards of chunks that this ledger does not know, as in a ledger that was restored from a backup or begun
    anew. They may be the only copy of their results: only ``repair`` decides about them."""
    complete: Sequence[str] = ()
    """The orphans that are complete shards of a chunk: ``repair`` can record them too, if it comes before the sweep."""


def find_strays(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Strays:
    """Find them, without the objects younger than ``margin``.

    The bucket is listed before the ledger is read, and open chunks are read before committed shards: a shard that is
    uploaded or committed in between is found in one of the two.
    """
    before = datetime.now(UTC) - margin
    objects = list(list_objects(results, "shards"))
    if not objects:
        return Strays((), ())
    owned = {shard_key(chunk.worker_id, chunk.shard_number) for chunk in read_open_chunks(engine)}
    owned |= {shard.shard_key for shard in read_committed_shards(engine)}
    # Read after the committed shards: a shard may retire meanwhile, and is never current again.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {sibling_key(key) for key in owned}
    strays = {item.key for item in objects if item.modified_at < before} - owned
    manifests = _read_manifests(results, strays)
    unknown = set(_find_unknown(engine, manifests, owned & {item.key for item in objects}))
    orphans = strays - unknown - {sibling_key(key) for key in unknown}
    complete = {each.key for each in manifests if not each.sources} - unknown
    return Strays(sorted(orphans), sorted(unknown), sorted(complete))


def _read_manifests(results: ObjectStore, strays: set[str]) -> list[ShardManifest]:
    """The manifests of those that are complete: without a manifest a shard was never committed."""
    complete = sorted(key for key in strays if key.endswith(".parquet") and sibling_key(key) in strays)
    with ThreadPoolExecutor(READERS) as pool:
        return [each for each in pool.map(partial(_read_manifest, results), complete) if each is not None]


def _find_unknown(engine: Engine, manifests: Sequence[ShardManifest], present: set[str]) -> Iterator[str]:
    """The shards of chunks that the ledger does not know, and compacted shards one of whose sources is not present."""
    written = [each for each in manifests if not each.sources]
    unknown = set(find_unknown_chunks(engine, [each.provenance.chunk_id for each in written]))
    yield from (each.key for each in written if each.provenance.chunk_id in unknown)
    yield from (each.key for each in manifests if each.sources and not present.issuperset(each.sources))


def _read_manifest(results: ObjectStore, key: str) -> ShardManifest | None:
    """None if the object beside the shard is no manifest of it: an upload that was cut off, or no shard at all."""
    try:
        manifest = read_manifest(results, key)
    except Permanent:
        return None
    return manifest if manifest.key == key else None


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Keys of the orphans, which may be deleted."""
    return find_strays(engine, results, margin=margin).orphans


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Delete the orphans. Returns their keys."""
    return _delete(results, find_orphans(engine, results, margin=margin))


def _delete(results: ObjectStore, keys: Sequence[str]) -> Sequence[str]:
    for key in keys:
        delete_object(results, key)
    return keys

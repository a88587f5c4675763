"""The audit: compare ledger, shards and manifests.

``audit`` checks a running fleet; ``verify_shards`` reads every committed shard and resumes from a log. Both functions
only read ledger and bucket. ``delete_orphans`` deletes the orphans of the bucket (see `Strays`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.errors import BadInput, Permanent
from validation.ledger.maintenance import find_unknown_chunks
from validation.ledger.queries import (
    CommittedShard,
    audit_ledger,
    read_committed_shards,
    read_open_chunks,
    read_retired_shards,
    read_segment_counts,
)
from validation.shards.manifest import ShardManifest, read_manifest
from validation.shards.naming import manifest_key_of, shard_key
from validation.shards.reader import read_shard, verify_shard
from validation.storage.store import delete_object, get_bytes, list_objects

READERS = 8
"""Number of shards or manifests that are read concurrently."""
ORPHAN_MARGIN = timedelta(hours=1)
"""Minimum age of an orphan. The margin is larger than the clock error of any object store."""


@dataclass(frozen=True, slots=True)
class Strays:
    """Keys of objects under ``shards/``, older than a margin, of no committed or retired shard and no open chunk."""

    orphans: Sequence[str]
    """Objects that may be deleted, for example of chunks that have a row but no shard in the ledger, of deleted shards,
    and of interrupted uploads and compactions."""
    unknown: Sequence[str]
    """Complete shards of chunks that this ledger does not know, for example because it was restored from a backup, and
    compacted shards of which a source is missing.

    Such a shard may be the only copy of its results, so no sweep deletes it. ``repair`` records it again."""
    complete: Sequence[str] = ()
    """Orphans that are complete shards of a chunk. ``repair`` can record them again until a sweep deletes them."""


def find_strays(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Strays:
    """Find the objects of the results bucket that are older than ``margin`` and that no shard or open chunk owns.

    The bucket is listed before the ledger is read, and open chunks are read before committed shards. So a shard that is
    uploaded or committed meanwhile is found among the open chunks or among the committed shards.
    """
    before = datetime.now(UTC) - margin
    objects = list(list_objects(results, "shards"))
    if not objects:
        return Strays((), ())
    owned = {shard_key(chunk.worker_id, chunk.shard_number) for chunk in read_open_chunks(engine)}
    owned |= {shard.shard_key for shard in read_committed_shards(engine)}
    # Retired shards are read after the committed shards: a committed shard may retire meanwhile, never the reverse.
    owned |= {shard.shard_key for shard in read_retired_shards(engine)}
    owned |= {manifest_key_of(key) for key in owned}
    strays = {item.key for item in objects if item.modified_at < before} - owned
    manifests = _read_manifests(results, strays)
    unknown = set(_find_unknown(engine, manifests, owned & {item.key for item in objects}))
    orphans = strays - unknown - {manifest_key_of(key) for key in unknown}
    complete = {each.key for each in manifests if not each.sources} - unknown
    return Strays(sorted(orphans), sorted(unknown), sorted(complete))


def _read_manifests(results: ObjectStore, strays: set[str]) -> list[ShardManifest]:
    """Read the manifests of the complete shards among the strays. A shard without a manifest was never committed."""
    complete = sorted(key for key in strays if key.endswith(".parquet") and manifest_key_of(key) in strays)
    with ThreadPoolExecutor(READERS) as pool:
        return [each for each in pool.map(partial(_read_manifest, results), complete) if each is not None]


def _find_unknown(engine: Engine, manifests: Sequence[ShardManifest], present: set[str]) -> Iterator[str]:
    """Yield the keys of shards whose chunk the ledger does not know, and of compacted shards that lack a source.

    ``present`` has the keys of the objects in the bucket that the ledger knows. A compacted shard lacks a source if the
    key of the source is not among them.
    """
    written = [each for each in manifests if not each.sources]
    unknown = set(find_unknown_chunks(engine, [each.provenance.chunk_id for each in written]))
    yield from (each.key for each in written if each.provenance.chunk_id in unknown)
    yield from (each.key for each in manifests if each.sources and not present.issuperset(each.sources))


def _read_manifest(results: ObjectStore, key: str) -> ShardManifest | None:
    """Read the manifest of a shard. None if it is not a manifest of this shard, as after an interrupted upload."""
    try:
        manifest = read_manifest(results, key)
    except Permanent:
        return None
    return manifest if manifest.key == key else None


def find_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Return the keys of the orphans, which may be deleted."""
    return find_strays(engine, results, margin=margin).orphans


def delete_orphans(engine: Engine, results: ObjectStore, *, margin: timedelta = ORPHAN_MARGIN) -> Sequence[str]:
    """Delete the orphans. Returns their keys."""
    return delete_objects(results, find_orphans(engine, results, margin=margin))


def delete_objects(results: ObjectStore, keys: Sequence[str]) -> Sequence[str]:
    """Delete objects. Returns their keys."""
    for key in keys:
        delete_object(results, key)
    return keys


def audit(engine: Engine, results: ObjectStore, *, orphan_margin: timedelta = ORPHAN_MARGIN) -> Iterator[str]:
    """Yield one sentence per finding; none means that ledger and bucket agree.

    The ledger is checked against its own invariants. Every committed shard is read: its bytes are compared with its
    manifest, and its segments per video with the ledger. The orphans of the bucket and the shards that the ledger does
    not know are listed.
    """
    for check in audit_ledger(engine):
        if check.violations:
            yield f"invariant broken: {check.invariant} ({check.violations} times, for example {check.example})"
    yield from (problem for _, problem in check_shards(engine, results) if problem)
    strays = find_strays(engine, results, margin=orphan_margin)
    yield from (f"orphan object {key}" for key in strays.orphans)
    yield from (f"shard {key} of a chunk that the ledger does not know: see `vfleet repair`" for key in strays.unknown)


def check_shards(engine: Engine, results: ObjectStore) -> Iterator[tuple[CommittedShard, str | None]]:
    """Check every committed shard; yields each shard with a description of its problem, or None."""
    shards = read_committed_shards(engine)
    segments = read_segment_counts(engine)
    with ThreadPoolExecutor(READERS) as pool:
        yield from zip(shards, pool.map(partial(check_shard, results, segments), shards), strict=True)


def check_shard(results: ObjectStore, segments: Mapping[str, Mapping[str, int]], shard: CommittedShard) -> str | None:
    """Compare a committed shard with its manifest and the ledger. Returns the first problem; None if there is none.

    ``segments`` has the ledger's counts: shard key -> video id -> number of segments.
    """
    key = shard.shard_key
    try:
        payload = get_bytes(results, key)
        manifest = read_manifest(results, key)
        verify_shard(payload, manifest)
    except Permanent as error:
        return str(error)
    if manifest.sha256 != shard.shard_sha256:
        return f"{key}: the ledger committed sha256 {shard.shard_sha256}, the store holds {manifest.sha256}"
    counts = read_shard(payload).group_by("video_id").agg(pl.len())
    found = dict(counts.iter_rows())
    expected = dict(segments.get(key, {}))
    if found != expected:
        differing = sorted(v for v in found.keys() | expected.keys() if found.get(v) != expected.get(v))
        return f"{key}: video {(v := differing[0])} has {found.get(v)} rows, the ledger says {expected.get(v)}"
    return None


@dataclass(frozen=True, slots=True)
class VerifiedShard:
    """The result for one shard: its key, its committed checksum, and its problem (None if it has none)."""

    key: str
    sha256: str
    problem: str | None


def verify_shards(
    engine: Engine, results: ObjectStore, *, log: Path | None = None, readers: int = READERS
) -> Iterator[VerifiedShard]:
    """Verify every committed shard; yields each result as soon as it is known, in no particular order.

    Memory holds one shard per reader. A problem of a shard is a result and does not stop the verification. An
    unreachable bucket or ledger raises; the next run resumes from the log.

    Args:
        engine: the ledger.
        results: the results bucket.
        log: a file of JSON lines; one line is appended per verified shard. A shard that the log lists without a problem
            is not read again.
        readers: how many shards are read concurrently.

    Raises:
        BadInput: the log is not a log of this command.
    """
    sound = _read_sound_shards(log) if log else set()
    waiting = [shard for shard in read_committed_shards(engine) if (shard.shard_key, shard.shard_sha256) not in sound]
    segments = read_segment_counts(engine)  # read last: it must cover every shard in ``waiting``

    def verify(shard: CommittedShard) -> VerifiedShard:
        return VerifiedShard(shard.shard_key, shard.shard_sha256, check_shard(results, segments, shard))

    pool = ThreadPoolExecutor(readers, thread_name_prefix="verify")
    try:
        for done in as_completed([pool.submit(verify, shard) for shard in waiting]):
            verified = done.result()
            if log:
                _append_to_log(log, verified)
            yield verified
    finally:
        pool.shutdown(cancel_futures=True)


def _read_sound_shards(log: Path) -> set[tuple[str, str]]:
    """Return (key, sha256) of each shard that the log lists without a problem; empty if the log does not exist.

    Removes an incomplete last line, so that lines can be appended.

    Raises:
        BadInput: the file is not a log of ``vfleet shards verify``.
    """
    if not log.exists():
        return set()
    whole, newline, _ = log.read_bytes().rpartition(b"\n")
    try:
        entries = [VerifiedShard(**json.loads(line)) for line in whole.splitlines()]
    except (TypeError, ValueError):
        raise BadInput(f"{log} is not a log of `vfleet shards verify`: name another file") from None
    with log.open("r+b") as file:
        file.truncate(len(whole + newline))
    return {(verified.key, verified.sha256) for verified in entries if verified.problem is None}


def _append_to_log(log: Path, verified: VerifiedShard) -> None:
    """Append one line to the log of a verification."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(verified)) + "\n")

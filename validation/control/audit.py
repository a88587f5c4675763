"""The audit: compare ledger, shards and manifests. Reads only."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import polars as pl
from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.control.orphans import ORPHAN_MARGIN, READERS, find_strays
from validation.errors import Permanent
from validation.ledger.queries import CommittedShard, audit_ledger, read_committed_shards, read_shard_segments
from validation.shards.bucket import read_manifest
from validation.shards.reader import read_shard, verify_shard
from validation.storage.store import get_bytes


def audit(engine: Engine, results: ObjectStore, *, orphan_margin: timedelta = ORPHAN_MARGIN) -> Iterator[str]:
    """Yield one sentence per finding; none means that ledger and bucket agree.

    The ledger is checked against its own invariants; every committed shard is read and compared with its manifest and
    the ledger, byte for byte and video for video; orphans are named.
    """
    for check in audit_ledger(engine):
        if check.violations:
            yield f"invariant broken: {check.invariant} ({check.violations} times, for example {check.example})"
    yield from (problem for _, problem in check_shards(engine, results) if problem)
    strays = find_strays(engine, results, margin=orphan_margin)
    yield from (f"orphan object {key}" for key in strays.orphans)
    yield from (f"shard {key} of a chunk that the ledger does not know: see `vfleet repair`" for key in strays.unknown)


def check_shards(engine: Engine, results: ObjectStore) -> Iterator[tuple[CommittedShard, str | None]]:
    """Check every committed shard; yields each with what is wrong with it, None if nothing is."""
    shards = read_committed_shards(engine)
    segments = read_shard_segments(engine)
    with ThreadPoolExecutor(READERS) as pool:
        yield from zip(shards, pool.map(partial(check_shard, results, segments), shards), strict=True)


def check_shard(results: ObjectStore, segments: Mapping[str, Mapping[str, int]], shard: CommittedShard) -> str | None:
    """What is wrong with one committed shard; None if nothing is."""
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

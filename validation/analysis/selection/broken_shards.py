"""Exclude shards that break the rules of the format, and list them, so that a bad shard does not falsify totals."""

from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from validation.analysis.selection.open import SCHEMA_READERS, read_schema, scan_errors
from validation.analysis.selection.sources import ReadableShard, RevisionShards, ShardSource
from validation.errors import BadInput
from validation.shards.reader import find_broken_shards, group_shards

PART_ROWS = 500_000
"""Approximate number of rows that are checked at a time. The check keeps these rows in memory."""


@dataclass(frozen=True, slots=True)
class BrokenShard:
    """A shard that is excluded because it breaks a rule of the format."""

    uri: str
    problem: str
    """A sentence on the first broken rule."""


def exclude_broken(source: ShardSource) -> tuple[ShardSource, tuple[BrokenShard, ...]]:
    """Exclude the shards that break a rule of the format which ``find_broken_shards`` checks. Every shard is checked.

    Returns:
        The source without the shards that break a rule, and these shards in the order of their URIs.

    Raises:
        ShardsUnreadable: a shard is missing or is not a parquet file, or the store cannot be read.
        BadInput: every shard breaks a rule.
    """
    broken: dict[str, str] = {}
    with scan_errors(source.suite):
        for revision in source.revisions:
            broken |= _find_broken(revision, source.storage_options)
    if not broken:
        return source, ()
    kept = [
        replace(revision, shards=tuple(shard for shard in revision.shards if shard.uri not in broken))
        for revision in source.revisions
    ]
    kept = [revision for revision in kept if revision.shards]
    excluded = tuple(BrokenShard(uri, problem) for uri, problem in sorted(broken.items()))
    if not kept:
        first = excluded[0]
        raise BadInput(
            f"every shard of suite {source.suite} breaks the format; the first is {first.uri}: {first.problem}"
        )
    return replace(source, revisions=tuple(kept)), excluded


def _find_broken(revision: RevisionShards, options: Mapping[str, str] | None) -> dict[str, str]:
    """Return the first broken rule of each broken shard of a revision, by URI."""
    with ThreadPoolExecutor(SCHEMA_READERS) as pool:
        schemas = list(pool.map(partial(read_schema, options=options), revision.shards))
    alike: dict[Hashable, list[ReadableShard]] = {}
    for shard, schema in zip(revision.shards, schemas, strict=True):
        alike.setdefault(tuple(schema.items()), []).append(shard)
    broken: dict[str, str] = {}
    for shards in alike.values():
        for part in group_shards(shards, lambda shard: shard.segments, PART_ROWS):
            broken |= find_broken_shards([shard.uri for shard in part], options)
    return broken

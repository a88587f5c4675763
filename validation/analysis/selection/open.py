"""Open shards as one lazy frame of segments. The frame has exactly one row per segment."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import polars as pl

from validation.analysis.selection.revisions import Revision, open_revisions
from validation.analysis.selection.sources import ReadableShard, RevisionShards, ShardSource
from validation.analysis.selection.verdicts import apply_rules
from validation.errors import BadInput, Permanent
from validation.models.suites import SUITES
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Decision, Rules
from validation.shards.reader import scan_shards

SCHEMA_READERS = 32
"""Number of threads that read shard schemas. Most of their time is spent waiting for the store."""


class ShardsUnreadable(Permanent):
    """The shards of a suite could not be scanned: a shard is missing or damaged, or the store could not be read."""

    def __init__(self, suite: str, cause: object) -> None:
        self.suite = suite
        super().__init__(
            f"the shards of suite {suite} cannot be read ({cause}): `vfleet shards verify` names the bad one"
        )


def open_segments(source: ShardSource) -> pl.LazyFrame:
    """Open all current segments of a suite as one lazy frame. This call reads only the schemas of the shards.

    If a shard lacks a column that other shards have, the column is null for its segments.

    Raises:
        ShardsUnreadable: a shard is missing or damaged, or the store cannot be read.
        BadInput: the suite has several revisions, and this version of the program does not know the suite.
    """
    with scan_errors(source.suite):
        revisions = [Revision(tuple(rev.models), _scan(rev, source.storage_options)) for rev in source.revisions]
        return open_revisions(revisions, _find_roles(source))


def find_videos(source: ShardSource, rules: Rules, verdicts: Collection[Decision]) -> list[str]:
    """Return the sorted ids of the videos with at least one segment to which the rules give one of the verdicts.

    Raises as ``open_segments`` and ``apply_rules``.
    """
    with scan_errors(source.suite):
        segments = apply_rules(open_segments(source), rules).filter(pl.col("verdict").is_in(list(verdicts)))
        videos = segments.select(pl.col("video_id").unique().sort()).collect(engine="streaming")
    return videos["video_id"].to_list()


@contextmanager
def scan_errors(suite: str) -> Iterator[None]:
    """Convert errors of polars and the operating system to ``ShardsUnreadable``. Collect shards inside this context."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ShardsUnreadable(suite, first) from None


def _scan(revision: RevisionShards, options: Mapping[str, str] | None) -> pl.LazyFrame:
    """Open the shards of one revision as one lazy frame. Shards with equal schemas are scanned together."""
    with ThreadPoolExecutor(SCHEMA_READERS) as pool:
        schemas = list(pool.map(partial(read_schema, options=options), revision.shards))
    alike: dict[Hashable, list[ReadableShard]] = {}
    for shard, schema in zip(revision.shards, schemas, strict=True):
        alike.setdefault(tuple(schema.items()), []).append(shard)
    return pl.concat([_scan_alike(shards, options) for shards in alike.values()], how="diagonal_relaxed")


def read_schema(shard: ReadableShard, options: Mapping[str, str] | None) -> pl.Schema:
    """Read the names and types of the columns of one shard."""
    return scan_shards([shard.uri], options).collect_schema()


def _scan_alike(shards: Sequence[ReadableShard], options: Mapping[str, str] | None) -> pl.LazyFrame:
    """Open shards with equal schemas as one lazy frame without the rows of withheld videos."""
    complete = [shard.uri for shard in shards if not shard.withheld]
    frames = [scan_shards(complete, options)] if complete else []
    frames += [
        scan_shards([shard.uri], options).filter(~pl.col("video_id").is_in(shard.withheld))
        for shard in shards
        if shard.withheld
    ]
    return pl.concat(frames)


def _find_roles(source: ShardSource) -> SuiteRoles:
    """Return the roles of the suite's models. The models of a suite that this version does not know have no roles.

    Raises:
        BadInput: the suite is unknown and has several revisions.
    """
    spec = SUITES.get(source.suite)
    if spec is not None:
        return SuiteRoles(tuple(spec.models), spec.asr_model, spec.lid_models)
    if len(source.revisions) > 1:
        raise BadInput(
            f"suite {source.suite!r} is unknown to this version: its {len(source.revisions)} revisions cannot be joined"
        )
    return SuiteRoles(tuple(source.revisions[0].models))

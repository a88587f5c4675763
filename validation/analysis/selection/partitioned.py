"""Join revisions one range of videos at a time, so that memory does not grow with the corpus.

Shards are sorted by video, so a range is a few row groups of each shard.
"""

from collections.abc import Iterator, Sequence

import polars as pl
from polars.io.plugins import register_io_source

from validation.analysis.selection.revisions import Revision, overlay_revisions, own_columns
from validation.scoring.signals import SuiteRoles

MAX_PART_ROWS = 1_000_000
"""Rows of all revisions together that are joined at a time; a row with every column takes about 1 kB."""
_VIDEO = "video_id"


def open_revisions(revisions: Sequence[Revision], roles: SuiteRoles) -> pl.LazyFrame:
    """Open the overlay of several revisions as one lazy frame that is joined part by part while it is read."""
    joined = overlay_revisions(revisions, roles)
    if len(revisions) == 1:
        return joined
    schema = joined.collect_schema()

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, max_rows: int | None, _batch_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        for part in _cut_parts(_filter_early(revisions, predicate), roles):
            rows = overlay_revisions(part, roles, schema=schema)
            rows = rows if predicate is None else rows.filter(predicate)
            rows = rows if columns is None else rows.select(columns)
            frame = (rows if max_rows is None else rows.head(max_rows)).collect(engine="streaming")
            max_rows = None if max_rows is None else max_rows - len(frame)
            yield frame

    return register_io_source(read, schema=schema, is_pure=True)  # pure: plans that read it together read it once


def _filter_early(revisions: Sequence[Revision], predicate: pl.Expr | None) -> Sequence[Revision]:
    """Filter before the join if the predicate reads the video id only, which is the same in every revision."""
    if predicate is None or set(predicate.meta.root_names()) != {_VIDEO}:
        return revisions
    return [revision.filter(predicate) for revision in revisions]


def _cut_parts(revisions: Sequence[Revision], roles: SuiteRoles) -> Iterator[Sequence[Revision]]:
    """Yield the revisions of each range of videos, without those that later revisions replace completely.

    Reads the column ``video_id``, and holds one row per video and revision.
    """
    census = pl.concat(
        revision.rows.group_by(_VIDEO).agg(pl.len().alias("rows")).with_columns(revision=pl.lit(index, pl.UInt32))
        for index, revision in enumerate(revisions)
    ).collect(engine="streaming")
    by_video = census.group_by(_VIDEO).agg(pl.col("rows").sum()).sort(_VIDEO)
    numbered = by_video.select(_VIDEO, part=(pl.col("rows").cum_sum() - 1) // MAX_PART_ROWS)
    for of_part in census.join(numbered, on=_VIDEO).sort("part", _VIDEO).partition_by("part", maintain_order=True):
        within = pl.col(_VIDEO).is_between(pl.lit(of_part[_VIDEO][0]), pl.lit(of_part[_VIDEO][-1]))
        yield [revisions[index].filter(within) for index in _find_needed(revisions, of_part, roles)]


def _find_needed(revisions: Sequence[Revision], census: pl.DataFrame, roles: SuiteRoles) -> list[int]:
    """The indexes of the revisions that are needed: some value of theirs is not replaced by a later revision."""
    models = [model for revision in revisions for model in revision.models]
    columns = [frozenset(own_columns(revision, models, roles)) for revision in revisions]

    def is_replaced(index: int) -> bool:
        later = range(index + 1, len(revisions))
        having = {frozenset(each for each in later if name in columns[each]) for name in columns[index]}
        return all(each and _covers(census, index, each) for each in having)

    return [index for index in range(len(revisions)) if not is_replaced(index)]


def _covers(census: pl.DataFrame, index: int, later: frozenset[int]) -> bool:
    """Whether the later revisions have every segment of a revision: segments are numbered without gaps."""
    own = census.filter(pl.col("revision") == index)
    theirs = census.filter(pl.col("revision").is_in(list(later))).group_by(_VIDEO).agg(pl.col("rows").max())
    matched = own.join(theirs, on=_VIDEO, how="left", suffix="_later")
    return bool((matched["rows_later"].fill_null(0) >= matched["rows"]).all())

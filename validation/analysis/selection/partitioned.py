"""Layers joined a range of videos at a time: what it takes does not grow with the corpus.

Shards are sorted by video, so a range is a few row groups of each, and of a compacted shard hardly more than is wanted.
"""

from collections.abc import Iterator, Sequence

import polars as pl
from polars.io.plugins import register_io_source

from validation.analysis.selection.revisions import Revision, overlay_revisions, own_columns
from validation.scoring.signals import SuiteRoles

PART_ROWS = 1_000_000
"""Rows of all layers together that are joined at a time; a row with every column takes about a kilobyte."""
_VIDEO = "video_id"


def open_revisions(layers: Sequence[Revision], roles: SuiteRoles) -> pl.LazyFrame:
    """Open what ``overlay_revisions`` says of several layers as one frame that is joined part by part as it is read."""
    joined = overlay_revisions(layers, roles)
    if len(layers) == 1:
        return joined
    schema = joined.collect_schema()

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, most_rows: int | None, _batch_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        for part in _cut_parts(_restrict(layers, predicate), roles):
            rows = overlay_revisions(part, roles, as_if_of=schema)
            rows = rows if predicate is None else rows.filter(predicate)
            rows = rows if columns is None else rows.select(columns)
            frame = (rows if most_rows is None else rows.head(most_rows)).collect(engine="streaming")
            most_rows = None if most_rows is None else most_rows - len(frame)
            yield frame

    return register_io_source(read, schema=schema, is_pure=True)  # pure: plans that read it together read it once


def _restrict(layers: Sequence[Revision], predicate: pl.Expr | None) -> Sequence[Revision]:
    """Filter before the join where only the video is asked for: the same in every layer."""
    if predicate is None or set(predicate.meta.root_names()) != {_VIDEO}:
        return layers
    return [layer.filter(predicate) for layer in layers]


def _cut_parts(layers: Sequence[Revision], roles: SuiteRoles) -> Iterator[Sequence[Revision]]:
    """Yield the layers of each range of videos, without those that later ones replace in all of it.

    Reads the column of videos, and holds one row a video and layer.
    """
    census = pl.concat(
        layer.rows.group_by(_VIDEO).agg(pl.len().alias("rows")).with_columns(layer=pl.lit(place, pl.UInt32))
        for place, layer in enumerate(layers)
    ).collect(engine="streaming")
    by_video = census.group_by(_VIDEO).agg(pl.col("rows").sum()).sort(_VIDEO)
    numbered = by_video.select(_VIDEO, part=(pl.col("rows").cum_sum() - 1) // PART_ROWS)
    for of_part in census.join(numbered, on=_VIDEO).sort("part", _VIDEO).partition_by("part", maintain_order=True):
        within = pl.col(_VIDEO).is_between(pl.lit(of_part[_VIDEO][0]), pl.lit(of_part[_VIDEO][-1]))
        yield [layers[place].filter(within) for place in _find_needed(layers, of_part, roles)]


def _find_needed(layers: Sequence[Revision], census: pl.DataFrame, roles: SuiteRoles) -> list[int]:
    """The places of the layers of which anything is left: not each column of each segment stands in a later one."""
    models = [model for layer in layers for model in layer.models]
    columns = [frozenset(own_columns(layer, models, roles)) for layer in layers]

    def is_replaced(place: int) -> bool:
        later = range(place + 1, len(layers))
        having = {frozenset(each for each in later if name in columns[each]) for name in columns[place]}
        return all(each and _covers(census, place, each) for each in having)

    return [place for place in range(len(layers)) if not is_replaced(place)]


def _covers(census: pl.DataFrame, place: int, later: frozenset[int]) -> bool:
    """Whether the later layers have every segment of a layer: a video's are numbered without gaps."""
    own = census.filter(pl.col("layer") == place)
    theirs = census.filter(pl.col("layer").is_in(list(later))).group_by(_VIDEO).agg(pl.col("rows").max())
    matched = own.join(theirs, on=_VIDEO, how="left", suffix="_later")
    return bool((matched["rows_later"].fill_null(0) >= matched["rows"]).all())

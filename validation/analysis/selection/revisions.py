"""Overlay the revisions of a suite: take the newest answer per segment and model.

A later revision, or a model that was added to the suite later, has its own shards, with columns of its own models only.
These shards are joined with the older shards by video and segment. The join processes one range of videos at a time, so
that memory does not grow with the corpus. Shards are sorted by video, so a range is a few row groups of each shard.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl
from polars.io.plugins import register_io_source

from validation.analysis.selection.verdicts import VERDICT_COLUMNS, matches_declared_language
from validation.scoring.signals import RECOGNITION_SIGNALS, SuiteRoles

KEY = ["video_id", "segment_index"]
"""The columns that identify a segment."""
ASR_COLUMNS = frozenset(column.name for column in RECOGNITION_SIGNALS)
"""Columns that are computed from the answer of the ASR model. A newer answer replaces all of them."""
SKIPPED = "not_asked: no shard of the suite has its answer for this segment"
"""The fault of a model that has no answer for a segment in any revision."""
_NEW = "::new"
"""Suffix of the columns of the newer revision while two revisions are joined."""


@dataclass(frozen=True, slots=True)
class Revision:
    """The segments of one suite revision, one row per segment."""

    models: Collection[str]
    """Names of the models that the revision ran."""
    rows: pl.LazyFrame

    def filter(self, predicate: pl.Expr) -> "Revision":
        return Revision(self.models, self.rows.filter(predicate))


def overlay_revisions(
    revisions: Sequence[Revision], roles: SuiteRoles, *, schema: pl.Schema | None = None
) -> pl.LazyFrame:
    """Overlay newer answers on older answers. If there are several revisions, the stored verdicts are dropped.

    Args:
        revisions: at least one revision, from the oldest to the newest.
        roles: the ASR model and the LID models of the suite.
        schema: the columns of the result; None for the columns of ``revisions``. It is needed if the caller left out
            revisions, because their columns must be in the result too.

    Returns:
        One row per segment that any revision has. If no revision has an answer of a model for a segment, the model's
        fault column is ``SKIPPED``.
    """
    if len(revisions) == 1 and schema is None:
        return revisions[0].rows
    joined = _recount_votes(reduce(lambda older, newer: _overlay(older, newer, roles), revisions).rows, roles)
    return joined if schema is None else joined.select(schema.names())


def _overlay(older: Revision, newer: Revision, roles: SuiteRoles) -> Revision:
    """Join two revisions by segment. Where both have a column for a segment, the newer value is used."""
    models = [*older.models, *(model for model in newer.models if model not in older.models)]
    old_names, new_names = (contributed_columns(revision, models, roles) for revision in (older, newer))
    joined = older.rows.select(*old_names, pl.lit(value=True).alias("::in_old")).join(
        newer.rows.select(
            *KEY, *(pl.col(name).alias(name + _NEW) for name in new_names), pl.lit(value=True).alias("::in_new")
        ),
        on=KEY,
        how="full",
        coalesce=True,
    )
    names = [*old_names, *(name for name in new_names if name not in old_names)]
    others = [_pick(name, name in old_names, name in new_names) for name in names if name not in KEY]
    faults = {f"{model}_fault" for model in models}
    return Revision(models, joined.select(*KEY, *(_fill_absence(pick, faults) for pick in others)))


@dataclass(frozen=True, slots=True)
class _Pick:
    """A column of the overlay: the newer revision's value where it has the segment, else the older revision's value."""

    name: str
    value: pl.Expr
    is_known: pl.Expr
    """True for rows of a revision that has the column."""


def _pick(name: str, in_old: bool, in_new: bool) -> _Pick:
    """Return the pick of a column that the older revision, the newer revision or both have."""
    old, new = pl.col("::in_old").is_not_null(), pl.col("::in_new").is_not_null()
    if in_old and in_new:
        return _Pick(name, pl.when(new).then(pl.col(name + _NEW)).otherwise(pl.col(name)), old | new)
    return _Pick(name, pl.col(name), old) if in_old else _Pick(name, pl.col(name + _NEW), new)


def _fill_absence(pick: _Pick, faults: Collection[str]) -> pl.Expr:
    """Return the value of a column. A fault column is ``SKIPPED`` for segments of which no revision has the column."""
    value = pick.value
    if pick.name in faults:
        value = pl.when(pick.is_known).then(value).otherwise(pl.lit(SKIPPED))
    return value.alias(pick.name)


def contributed_columns(revision: Revision, models: Collection[str], roles: SuiteRoles) -> list[str]:
    """Return the columns that a revision contributes to the overlay.

    Verdict columns are excluded, and so are columns of a model, or computed from the answer of a model, that the
    revision did not run.
    """
    return [
        name
        for name in revision.rows.collect_schema().names()
        if name not in VERDICT_COLUMNS
        and (name not in ASR_COLUMNS or roles.asr_model is None or roles.asr_model in revision.models)
        and (_model_of(name, models) in {None, *revision.models})
    ]


def _model_of(column: str, models: Collection[str]) -> str | None:
    """Return the model to which a column belongs, or None. Of two matching models, the longer name is the prefix."""
    return max((model for model in models if column.startswith(f"{model}_")), key=len, default=None)


def _recount_votes(rows: pl.LazyFrame, roles: SuiteRoles) -> pl.LazyFrame:
    """Count the LID votes again as ``count_votes`` does, because the answers may come from different revisions."""
    present = set(rows.collect_schema().names())
    models = [model for model in roles.lid_models if f"{model}_language" in present]
    votes = [
        pl.when(pl.col(f"{model}_declared_p").is_not_null()).then(matches_declared_language(model)) for model in models
    ]
    agreeing = pl.sum_horizontal(pl.lit(0, pl.Int64), *(vote.fill_null(value=False).cast(pl.Int64) for vote in votes))
    opposing = pl.sum_horizontal(
        pl.lit(0, pl.Int64), *((~vote).fill_null(value=False).cast(pl.Int64) for vote in votes)
    )
    return rows.with_columns(
        language_votes_for=agreeing,
        language_votes_against=opposing,
        language_abstentions=len(roles.lid_models) - agreeing - opposing,
    )


MAX_PART_ROWS = 1_000_000
"""Approximate number of rows, summed over all revisions, that are joined at a time. A full row takes about 1 kB."""
_VIDEO = "video_id"


def open_revisions(revisions: Sequence[Revision], roles: SuiteRoles) -> pl.LazyFrame:
    """Open the overlay of all revisions as one lazy frame. Reading the frame joins one range of videos at a time."""
    joined = overlay_revisions(revisions, roles)
    if len(revisions) == 1:
        return joined
    schema = joined.collect_schema()

    def read(
        columns: list[str] | None, predicate: pl.Expr | None, max_rows: int | None, _batch_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        for part in _split_by_videos(_filter_early(revisions, predicate), roles):
            rows = overlay_revisions(part, roles, schema=schema)
            rows = rows if predicate is None else rows.filter(predicate)
            rows = rows if columns is None else rows.select(columns)
            frame = (rows if max_rows is None else rows.head(max_rows)).collect(engine="streaming")
            max_rows = None if max_rows is None else max_rows - len(frame)
            yield frame

    return register_io_source(read, schema=schema, is_pure=True)  # pure: polars reads the source once for several plans


def _filter_early(revisions: Sequence[Revision], predicate: pl.Expr | None) -> Sequence[Revision]:
    """Filter the revisions before the join if the predicate reads only the video id, which the join does not change."""
    if predicate is None or set(predicate.meta.root_names()) != {_VIDEO}:
        return revisions
    return [revision.filter(predicate) for revision in revisions]


def _split_by_videos(revisions: Sequence[Revision], roles: SuiteRoles) -> Iterator[Sequence[Revision]]:
    """Split the videos into ranges of about ``MAX_PART_ROWS`` rows, and yield the revisions filtered to each range.

    A revision is left out of a range if later revisions replace all its values there. The function reads the column
    ``video_id`` of all revisions, and holds one row per video and revision in memory.
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
    """Return the indexes of revisions that have at least one value which later revisions do not replace."""
    models = [model for revision in revisions for model in revision.models]
    columns = [frozenset(contributed_columns(revision, models, roles)) for revision in revisions]

    def is_replaced(index: int) -> bool:
        later = range(index + 1, len(revisions))
        having = {frozenset(each for each in later if name in columns[each]) for name in columns[index]}
        return all(each and _covers(census, index, each) for each in having)

    return [index for index in range(len(revisions)) if not is_replaced(index)]


def _covers(census: pl.DataFrame, index: int, later: frozenset[int]) -> bool:
    """Return whether the later revisions have every segment of revision ``index``.

    Comparing row counts per video suffices, because segments are numbered without gaps.
    """
    own = census.filter(pl.col("revision") == index)
    theirs = census.filter(pl.col("revision").is_in(list(later))).group_by(_VIDEO).agg(pl.col("rows").max())
    matched = own.join(theirs, on=_VIDEO, how="left", suffix="_later")
    return bool((matched["rows_later"].fill_null(0) >= matched["rows"]).all())

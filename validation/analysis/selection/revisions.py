"""Overlay the revisions of a suite: per segment and model, the newest answer.

A later revision, or a model that was added to the suite later, has its own shards with only its own columns. They are
joined with the older shards by video and segment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from validation.analysis.selection.verdicts import VERDICT_COLUMNS
from validation.scoring.signals import RECOGNITION_SIGNALS, SuiteRoles

KEY = ["video_id", "segment_index"]
ASR_COLUMNS = frozenset(column.name for column in RECOGNITION_SIGNALS)
"""Columns that are computed from the ASR model's answer; they are replaced together with it."""
SKIPPED = "not_asked: no shard of the suite has its answer for this segment"
_NEW = "::new"


@dataclass(frozen=True, slots=True)
class Revision:
    """The rows of one revision of a suite, each segment once."""

    models: Collection[str]
    """The models that were run."""
    rows: pl.LazyFrame

    def filter(self, predicate: pl.Expr) -> "Revision":
        return Revision(self.models, self.rows.filter(predicate))


def overlay_revisions(
    revisions: Sequence[Revision], roles: SuiteRoles, *, schema: pl.Schema | None = None
) -> pl.LazyFrame:
    """Overlay newer answers on older ones; stored verdicts are dropped if there are several revisions.

    Args:
        revisions: from the oldest to the newest, at least one.
        roles: which model of the suite is the ASR model, and which are LID models.
        schema: the columns of the result, if some of the revisions were left out.

    Returns:
        One row per segment of any revision. If no revision has a model's answer for a segment, the model's fault
        column says so.
    """
    if len(revisions) == 1 and schema is None:
        return revisions[0].rows
    joined = _recount_votes(reduce(lambda older, newer: _overlay(older, newer, roles), revisions).rows, roles)
    return joined if schema is None else joined.select(schema.names())


def _overlay(older: Revision, newer: Revision, roles: SuiteRoles) -> Revision:
    models = [*older.models, *(model for model in newer.models if model not in older.models)]
    old_names, new_names = (own_columns(revision, models, roles) for revision in (older, newer))
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
    name: str
    value: pl.Expr
    is_known: pl.Expr
    """Whether the row is in a revision that has the column."""


def _pick(name: str, in_old: bool, in_new: bool) -> _Pick:
    old, new = pl.col("::in_old").is_not_null(), pl.col("::in_new").is_not_null()
    if in_old and in_new:
        return _Pick(name, pl.when(new).then(pl.col(name + _NEW)).otherwise(pl.col(name)), old | new)
    return _Pick(name, pl.col(name), old) if in_old else _Pick(name, pl.col(name + _NEW), new)


def _fill_absence(pick: _Pick, faults: Collection[str]) -> pl.Expr:
    value = pick.value
    if pick.name in faults:
        value = pl.when(pick.is_known).then(value).otherwise(pl.lit(SKIPPED))
    return value.alias(pick.name)


def own_columns(revision: Revision, models: Collection[str], roles: SuiteRoles) -> list[str]:
    """The columns that a revision decides: not those computed from the answer of a model that it did not run."""
    return [
        name
        for name in revision.rows.collect_schema().names()
        if name not in VERDICT_COLUMNS
        and (name not in ASR_COLUMNS or roles.asr_model is None or roles.asr_model in revision.models)
        and (_owner(name, models) in {None, *revision.models})
    ]


def _owner(column: str, models: Collection[str]) -> str | None:
    """The model that a column belongs to; if one model's name begins with another's, the longer name counts."""
    return max((model for model in models if column.startswith(f"{model}_")), key=len, default=None)


def _recount_votes(rows: pl.LazyFrame, roles: SuiteRoles) -> pl.LazyFrame:
    """Count the LID votes again, as ``count_votes`` does: the models may be in different revisions."""
    present = set(rows.collect_schema().names())
    models = [model for model in roles.lid_models if f"{model}_language" in present]
    declared = pl.col("language_code")
    votes = [
        pl.when(pl.col(f"{model}_declared_p").is_not_null()).then(pl.col(f"{model}_language") == declared)
        for model in models
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

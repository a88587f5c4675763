"""One frame of a suite from shards of several revisions: for each segment and model, the newest answer there is.

A later revision, or a model that joined the suite later, has shards of its own with its own columns alone. They join
the older ones by video and segment.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce

import polars as pl

from validation.analysis.selection.verdicts import JUDGED
from validation.scoring.signals import SuiteRoles

KEY = ["video_id", "segment_index"]
RECOGNISED = frozenset({"cer", "edge_cer_start", "edge_cer_end"})
"""What is derived from the transcriber's answer, and so goes with it."""
SKIPPED = "not_asked: no shard of the suite has its answer for this segment"
_NEW = "::new"


@dataclass(frozen=True, slots=True)
class Revision:
    """The rows of one revision of a suite, each segment once."""

    models: Collection[str]
    """Those that were asked."""
    rows: pl.LazyFrame

    def filter(self, predicate: pl.Expr) -> "Revision":
        return Revision(self.models, self.rows.filter(predicate))


def overlay_revisions(
    layers: Sequence[Revision], roles: SuiteRoles, *, as_if_of: pl.Schema | None = None
) -> pl.LazyFrame:
    """Lay newer answers over older ones; stored verdicts are dropped if there are several layers.

    Args:
        layers: from the oldest revision to the newest, at least one.
        roles: who of the suite transcribes, and who judges languages.
        as_if_of: what several layers join to, if these may be fewer of them.

    Returns:
        One row a segment of any layer. A model that no layer asked about a segment has its fault say so.
    """
    if len(layers) == 1 and as_if_of is None:
        return layers[0].rows
    joined = _count_votes(reduce(lambda older, newer: _overlay(older, newer, roles), layers).rows, roles)
    return joined if as_if_of is None else joined.select(as_if_of.names())


def _overlay(older: Revision, newer: Revision, roles: SuiteRoles) -> Revision:
    models = [*older.models, *(model for model in newer.models if model not in older.models)]
    old_names, new_names = (own_columns(layer, models, roles) for layer in (older, newer))
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
    return Revision(models, joined.select(*KEY, *(_tell_absence(pick, faults) for pick in others)))


@dataclass(frozen=True, slots=True)
class _Pick:
    name: str
    value: pl.Expr
    is_known: pl.Expr
    """The row stands in a layer that has the column."""


def _pick(name: str, in_old: bool, in_new: bool) -> _Pick:
    old, new = pl.col("::in_old").is_not_null(), pl.col("::in_new").is_not_null()
    if in_old and in_new:
        return _Pick(name, pl.when(new).then(pl.col(name + _NEW)).otherwise(pl.col(name)), old | new)
    return _Pick(name, pl.col(name), old) if in_old else _Pick(name, pl.col(name + _NEW), new)


def _tell_absence(pick: _Pick, faults: Collection[str]) -> pl.Expr:
    value = pick.value
    if pick.name in faults:
        value = pl.when(pick.is_known).then(value).otherwise(pl.lit(SKIPPED))
    return value.alias(pick.name)


def own_columns(layer: Revision, models: Collection[str], roles: SuiteRoles) -> list[str]:
    """The columns on which a layer has a say: not those derived from the answer of a model that it did not ask."""
    return [
        name
        for name in layer.rows.collect_schema().names()
        if name not in JUDGED
        and (name not in RECOGNISED or roles.asr_model is None or roles.asr_model in layer.models)
        and (_owner(name, models) in {None, *layer.models})
    ]


def _owner(column: str, models: Collection[str]) -> str | None:
    """The model whose column it is; of two models, one named as the other begins, the longer name counts."""
    return max((model for model in models if column.startswith(f"{model}_")), key=len, default=None)


def _count_votes(rows: pl.LazyFrame, roles: SuiteRoles) -> pl.LazyFrame:
    """Count the judges anew, as ``count_votes`` does: they may stand in different layers."""
    present = set(rows.collect_schema().names())
    judges = [judge for judge in roles.lid_models if f"{judge}_language" in present]
    declared = pl.col("language_code")
    votes = [
        pl.when(pl.col(f"{judge}_declared_p").is_not_null()).then(pl.col(f"{judge}_language") == declared)
        for judge in judges
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

"""The best hours of each language: the kept segments that lie farthest inside the rules."""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import polars as pl

from validation.scoring.verdict import Decision

LEFT_OUT = "not among the best"
"""Stands in the column ``verdict`` of a segment that has a wanted verdict and is left out."""
STEP = 1e-4
"""Margins are compared in steps of this size, so that memory does not grow with the number of segments."""
Hours: TypeAlias = float
_PLACE = (pl.col("margin") / STEP).floor().cast(pl.Int64)
_LANGUAGE = pl.coalesce("language_code", "language", pl.lit("unknown"))


@dataclass(frozen=True, slots=True)
class BestOfLanguage:
    """What is kept of one language."""

    language: str
    segments: int
    hours: Hours
    margin: float
    """Every wanted segment with at most this margin is kept. Below 0 lies inside the rules."""


def keep_best(
    segments: pl.LazyFrame, keep: Collection[Decision], hours: Hours | None = None, *, share: float = 1.0
) -> tuple[pl.LazyFrame, list[BestOfLanguage]]:
    """Keep of each language the wanted segments with the lowest margins, at most some hours or a share.

    Segments of equal margins (in steps of ``STEP``) are kept together or not at all.

    Args:
        segments: from ``apply_rules``.
        keep: the wanted verdicts.
        hours: how many of each language; None for all.
        share: which part of the wanted hours of each language; 0.9 leaves out the tenth nearest to a limit.

    Returns:
        All segments, with ``LEFT_OUT`` as the verdict of the wanted ones that are left out; and what is kept of each
        language, most hours first. A language of which nothing fits is not listed.
    """
    wanted = pl.col("verdict").is_in(list(keep))
    allowed = pl.col("hours").max().over("::language") * share if share < 1 else pl.lit(inf)
    places = (
        segments.filter(wanted)
        .group_by(_LANGUAGE.alias("::language"), _PLACE.alias("::place"))
        .agg(pl.len().alias("segments"), pl.col("duration_s").sum())
        .collect(engine="streaming")
        .sort("::language", "::place")
        .with_columns(hours=pl.col("duration_s").cum_sum().over("::language") / 3600)
        .filter(pl.col("hours") <= pl.min_horizontal(allowed, pl.lit(inf if hours is None else hours)))
    )
    last = places.group_by("::language").agg(
        pl.col("::place").max().alias("::last"), pl.col("segments").sum(), pl.col("hours").max()
    )
    kept = [
        BestOfLanguage(row["::language"], row["segments"], row["hours"], (row["::last"] + 1) * STEP)
        for row in last.sort("hours", "::language", descending=[True, False]).iter_rows(named=True)
    ]
    limit = _LANGUAGE.replace_strict(
        last["::language"], last["::last"], default=None, return_dtype=pl.Int64
    ) if len(last) else pl.lit(None, pl.Int64)  # fmt: skip
    is_best = (limit >= _PLACE).fill_null(value=False)
    verdict = pl.when(wanted & ~is_best).then(pl.lit(LEFT_OUT)).otherwise("verdict")
    return segments.with_columns(verdict=verdict), kept

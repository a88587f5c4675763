"""Select the best hours of each language: the wanted segments with the lowest margins."""

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import polars as pl

from validation.analysis.selection.verdicts import LANGUAGE_GROUP
from validation.scoring.verdict import Decision

LEFT_OUT = "not among the best"
"""Value of the column ``verdict`` for a segment that has a wanted verdict but is not among the best."""
STEP = 1e-4
"""Bin width of margins. Margins are compared per bin, so that memory does not grow with the number of segments."""
Hours: TypeAlias = float
_BIN = (pl.col("margin") / STEP).floor().cast(pl.Int64)
"""The number of the bin in which a segment's margin lies."""


@dataclass(frozen=True, slots=True)
class BestOfLanguage:
    """Number and hours of the segments that are kept of one language."""

    language: str
    segments: int
    hours: Hours
    margin: float
    """Wanted segments with a margin below this value are kept. A negative margin means that no rule fires."""


def keep_best(
    segments: pl.LazyFrame, keep: Collection[Decision], hours: Hours | None = None, *, share: float = 1.0
) -> tuple[pl.LazyFrame, list[BestOfLanguage]]:
    """Keep the wanted segments with the lowest margins, up to a number of hours and a share per language.

    If both limits are given, the smaller one counts. Segments whose margins are in the same bin of width ``STEP`` are
    kept together or not at all.

    Args:
        segments: from ``apply_rules``.
        keep: the wanted verdicts.
        hours: the maximum number of hours per language; None for no maximum.
        share: the maximum fraction of the wanted hours per language; 0.9 leaves out the 10 % with the highest margins.

    Returns:
        All segments, with ``LEFT_OUT`` as the verdict of wanted segments that are left out; and a summary per language,
        sorted by descending hours. A language of which no segment is kept is not listed.
    """
    wanted = pl.col("verdict").is_in(list(keep))
    allowed = pl.col("hours").max().over("::language") * share if share < 1 else pl.lit(inf)
    bins = (
        segments.filter(wanted)
        .group_by(LANGUAGE_GROUP.alias("::language"), _BIN.alias("::bin"))
        .agg(pl.len().alias("segments"), pl.col("duration_s").sum())
        .collect(engine="streaming")
        .sort("::language", "::bin")
        .with_columns(hours=pl.col("duration_s").cum_sum().over("::language") / 3600)
        .filter(pl.col("hours") <= pl.min_horizontal(allowed, pl.lit(inf if hours is None else hours)))
    )
    last = bins.group_by("::language").agg(
        pl.col("::bin").max().alias("::last"), pl.col("segments").sum(), pl.col("hours").max()
    )
    kept = [
        BestOfLanguage(row["::language"], row["segments"], row["hours"], (row["::last"] + 1) * STEP)
        for row in last.sort("hours", "::language", descending=[True, False]).iter_rows(named=True)
    ]
    limit = LANGUAGE_GROUP.replace_strict(
        last["::language"], last["::last"], default=None, return_dtype=pl.Int64
    ) if len(last) else pl.lit(None, pl.Int64)  # fmt: skip
    is_best = (limit >= _BIN).fill_null(value=False)
    verdict = pl.when(wanted & ~is_best).then(pl.lit(LEFT_OUT)).otherwise("verdict")
    return segments.with_columns(verdict=verdict), kept

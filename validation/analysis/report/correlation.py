"""Pearson's r of many pairs of columns over rows that are read in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import polars as pl

Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Moments:
    """The rows that have both values: their number, means, and sums of squared and mixed deviations."""

    rows: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        """Join two sets of rows (Chan, Golub and LeVeque 1983): no large sums are subtracted."""
        rows = self.rows + other.rows
        if not rows:
            return self
        x, y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.rows * other.rows / rows
        return Moments(
            rows,
            self.mean_x + x * other.rows / rows,
            self.mean_y + y * other.rows / rows,
            self.xx + other.xx + x * x * weight,
            self.yy + other.yy + y * y * weight,
            self.xy + other.xy + x * y * weight,
        )

    @property
    def correlation(self) -> float | None:
        """Pearson's r; None if one of the columns is constant: its correlation is undefined."""
        return self.xy / sqrt(self.xx * self.yy) if self.xx > 0 and self.yy > 0 else None


def plan_moments(segments: pl.LazyFrame, pairs: Sequence[Pair]) -> pl.LazyFrame:
    """Plan one row with the moments of each pair in a column ``x y``."""
    return segments.select(_moments(*pair) for pair in pairs)


def read_moments(found: pl.DataFrame, pairs: Sequence[Pair]) -> Mapping[Pair, Moments]:
    """The moments that ``plan_moments`` found."""
    return {pair: Moments(**found[" ".join(pair)][0]) for pair in pairs}


def _moments(one: str, other: str) -> pl.Expr:
    known = pl.col(one).is_not_null() & pl.col(other).is_not_null()
    x, y = (pl.col(name).cast(pl.Float64).filter(known) for name in (one, other))
    return pl.struct(
        known.sum().cast(pl.Int64).alias("rows"),
        x.mean().fill_null(0.0).alias("mean_x"),
        y.mean().fill_null(0.0).alias("mean_y"),
        (x - x.mean()).pow(2).sum().alias("xx"),
        (y - y.mean()).pow(2).sum().alias("yy"),
        ((x - x.mean()) * (y - y.mean())).sum().alias("xy"),
    ).alias(f"{one} {other}")

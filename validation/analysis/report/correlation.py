"""Compute Pearson's r for many pairs of columns. The rows are read in parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

import polars as pl

Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics of two columns x and y over the rows that have both values.

    ``xx``, ``yy`` and ``xy`` are sums of products of the deviations from the means.
    """

    rows: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def __add__(self, other: "Moments") -> "Moments":
        """Return the moments of the union of two sets of rows (Chan, Golub and LeVeque 1983).

        The formula subtracts no large sums, so it is numerically stable.
        """
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
        """Pearson's r; None if one of the columns is constant, because r is then undefined."""
        return self.xy / sqrt(self.xx * self.yy) if self.xx > 0 and self.yy > 0 else None


def plan_moments(segments: pl.LazyFrame, pairs: Sequence[Pair]) -> pl.LazyFrame:
    """Plan a query of one row. A column named ``<x> <y>`` holds the moments of each pair as a struct."""
    return segments.select(_moments(*pair) for pair in pairs)


def read_moments(found: pl.DataFrame, pairs: Sequence[Pair]) -> Mapping[Pair, Moments]:
    """Read the moments of each pair from the result of ``plan_moments``."""
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

"""Compute Pearson's r for all pairs of some columns. The rows are added in parts, and memory is constant."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from validation.analysis.report.signals import Signal

Pair: TypeAlias = tuple[str, str]
_BLOCK_ROWS = 256
"""Rows per matrix product. BLAS computes so small a product on one thread; its other threads would wait actively."""
_ROUNDING = 1e-12
"""A variance below this share of the mean square distance from the median is rounding error: the column is constant."""


class PairMoments:
    """Sums of products of columns, over the rows that have both values of a pair.

    Values are taken as distances from the median of their column, so that no large sums are subtracted.
    """

    def __init__(self, signals: Sequence[Signal]) -> None:
        """Start with no rows. The columns are those of ``signals``."""
        self._names = [signal.name for signal in signals]
        self._medians = np.array([signal.median for signal in signals])
        size = len(signals)
        self._rows, self._sums, self._squares, self._products = np.zeros((4, size, size))

    def add(self, part: pl.DataFrame) -> None:
        """Add rows. Element ``[x, y]`` of a sum is over the rows in which both columns are known."""
        if not self._names:
            return
        values = np.column_stack([part[name].cast(pl.Float64).to_numpy() for name in self._names]) - self._medians
        missing = np.isnan(values)
        values[missing] = 0.0
        known = (~missing).astype(np.float64)
        self._rows += _sum_products(known, known)
        self._sums += _sum_products(values, known)
        self._squares += _sum_products(values**2, known)
        self._products += _sum_products(values, values)

    def correlations(self) -> Mapping[Pair, float | None]:
        """Return Pearson's r per pair; None if r is undefined: no row has both values, or a column is constant."""
        places = combinations(range(len(self._names)), 2)
        return {(self._names[x], self._names[y]): self._correlate(x, y) for x, y in places}

    def _correlate(self, x: int, y: int) -> float | None:
        """Return Pearson's r of two columns, given by their indexes; None if it is undefined."""
        rows = self._rows[x, y]
        if not rows:
            return None
        of_x, of_y = (self._squares[place] - self._sums[place] ** 2 / rows for place in ((x, y), (y, x)))
        if of_x <= _ROUNDING * self._squares[x, y] or of_y <= _ROUNDING * self._squares[y, x]:
            return None
        return float((self._products[x, y] - self._sums[x, y] * self._sums[y, x] / rows) / sqrt(of_x * of_y))


def _sum_products(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sum over the rows of the product of each column of ``x`` with each column of ``y``."""
    missing = -len(x) % _BLOCK_ROWS
    blocks = [np.pad(each, ((0, missing), (0, 0))).reshape(-1, _BLOCK_ROWS, each.shape[1]) for each in (x, y)]
    return np.asarray(np.matmul(blocks[0].transpose(0, 2, 1), blocks[1]).sum(0))

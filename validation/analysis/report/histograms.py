"""Count the values of signals per language, verdict and bin. The rows are added in parts, and memory is constant."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from validation.analysis.report.signals import BINS, VERDICTS, Signal
from validation.analysis.selection.verdicts import LANGUAGE_GROUP

_BLOCK = len(VERDICTS) * BINS
"""Number of counts per signal and language."""
Counts: TypeAlias = npt.NDArray[np.int64]


class SignalHistograms:
    """Histograms of signals per language and verdict, with ``BINS`` bins from ``low`` to ``high`` of each signal."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        """Start with no rows."""
        self._signals = signals
        self._languages: dict[str, int] = {}
        self._counts: dict[str, Counts] = {signal.name: np.zeros(0, np.int64) for signal in signals}

    def add(self, part: pl.DataFrame) -> None:
        """Count the values of some rows. The outermost bins count values beyond the range; nulls do not count."""
        blocks = self._find_blocks(part)
        for signal in self._signals:
            values = part[signal.name].cast(pl.Float64).to_numpy()
            known = ~np.isnan(values)
            positions = np.floor((values[known] - signal.low) / (signal.high - signal.low) * BINS)
            bins = np.clip(positions, 0, BINS - 1).astype(np.int64)
            counts = np.bincount(blocks[known] + bins, minlength=len(self._languages) * _BLOCK)
            counts[: len(self._counts[signal.name])] += self._counts[signal.name]
            self._counts[signal.name] = counts

    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Return per signal the rows ``language, verdict, bin, count`` of the bins that are not empty."""
        languages = list(self._languages)
        return {
            name: pl.DataFrame(
                [
                    (languages[place // _BLOCK], VERDICTS[place % _BLOCK // BINS], place % BINS, counts[place])
                    for place in np.flatnonzero(counts).tolist()
                ],
                schema={"language": pl.String, "verdict": pl.String, "bin": pl.Int32, "count": pl.Int64},
                orient="row",
            )
            for name, counts in self._counts.items()
        }

    def _find_blocks(self, part: pl.DataFrame) -> Counts:
        """Return for each row the index of the first bin of its language and verdict.

        A language that is seen for the first time is added to the languages.
        """
        groups = part.select(LANGUAGE_GROUP.alias("language"), "verdict")
        for language in groups["language"].unique(maintain_order=True):
            self._languages.setdefault(language, len(self._languages))
        verdicts = {verdict: place for place, verdict in enumerate(VERDICTS)}
        languages = groups["language"].replace_strict(self._languages, return_dtype=pl.Int64) * _BLOCK
        return np.asarray(
            languages + groups["verdict"].replace_strict(verdicts, return_dtype=pl.Int64) * BINS, np.int64
        )

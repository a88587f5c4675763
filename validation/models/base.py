"""The interface of one model, and the batch that a model scores.

This module imports no package that a bare GPU machine may lack.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, ColumnType

__all__ = ["Batch", "Column", "ColumnType", "SegmentModel"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that a model scores together.

    Attributes:
        waveforms: (B, T) float32 mono samples in [-1, 1] at ``SAMPLE_RATE``, zero-padded on the right.
        lengths: (B,) int64 true lengths in samples, ``1 <= lengths[i] <= T``.
        texts: B stored transcripts, as the tar has them.
        languages: B declared languages, None for a segment without one.
        requested_models: B items: the names of the models that must score the segment, or None for all models.
    """

    waveforms: NDArray[np.float32]
    lengths: NDArray[np.int64]
    texts: Sequence[str]
    languages: Sequence[str | None]
    requested_models: Sequence[Sequence[str] | None]

    def __len__(self) -> int:
        return len(self.texts)

    def rows_for(self, model: str) -> list[int]:
        """List the indices of the segments that a model must score."""
        return [row for row, names in enumerate(self.requested_models) if names is None or model in names]


@runtime_checkable
class SegmentModel(Protocol):
    """A model that scores segments, one batch at a time."""

    name: ClassVar[str]
    """The prefix of the model's parquet columns. A new name changes the schema of the shards."""
    columns: ClassVar[tuple[Column, ...]]
    """One column for every key that the model may put into ``Scored.values``."""
    languages: frozenset[str] | None
    """Normalised codes of the languages that the model can identify; None if the model identifies no languages."""
    revision: str
    """The weights and the variant of the computation, such as ``<hash>-float32``. Every manifest records it."""

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch.

        Returns:
            B answers in the order of the segments. The answer for a segment does not depend on the rest of the batch.

        Raises:
            Exception: the model failed, and no segment has an answer. ``score_with_bisection`` handles the error.
        """
        ...

"""The interface of one model, and the batch that it scores. Imports no package that a bare GPU machine may lack."""

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
        wanted: for each which models it asks; None is all.
    """

    waveforms: NDArray[np.float32]
    lengths: NDArray[np.int64]
    texts: Sequence[str]
    languages: Sequence[str | None]
    requested_models: Sequence[Sequence[str] | None]

    def __len__(self) -> int:
        return len(self.texts)

    def rows_for(self, model: str) -> list[int]:
        """List the rows that request a model."""
        return [row for row, names in enumerate(self.requested_models) if names is None or model in names]


@runtime_checkable
class SegmentModel(Protocol):
    """A model that scores segments, one batch at a time."""

    name: ClassVar[str]
    """The prefix of its parquet columns; renaming it is a schema change."""
    columns: ClassVar[tuple[Column, ...]]
    """Every key that its ``Scored.values`` may hold."""
    languages: frozenset[str] | None
    """Languages that it can name, as normalised codes; None for a model that does not identify languages."""
    revision: str
    """Identifies the weights (a hash); written into every manifest."""

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch.

        Returns:
            B answers in input order. An item's answer does not depend on the rest of the batch.

        Raises:
            Exception: nothing was scored. ``score_with_bisection`` classifies GPU errors for all models.
        """
        ...

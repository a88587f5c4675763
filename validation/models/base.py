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
    """Segments that travel through a model together.

    Attributes:
        waveforms: (B, T) float32 mono samples in [-1, 1] at ``SAMPLE_RATE``, zero-padded on the right.
        lengths: (B,) int64 true lengths in samples, ``1 <= lengths[i] <= T``.
        texts: B stored transcripts, as the tar tells them.
        languages: B declared languages, None where nobody declared one.
        wanted: for each which models it asks; None is all.
    """

    waveforms: NDArray[np.float32]
    lengths: NDArray[np.int64]
    texts: Sequence[str]
    languages: Sequence[str | None]
    wanted: Sequence[Sequence[str] | None]

    def __len__(self) -> int:
        return len(self.texts)

    def rows_for(self, model: str) -> list[int]:
        """Say which rows ask a model."""
        return [row for row, wanted in enumerate(self.wanted) if wanted is None or model in wanted]


@runtime_checkable
class SegmentModel(Protocol):
    """A model that answers for segments, a batch at a time."""

    name: ClassVar[str]
    """The prefix of its parquet columns; renaming it is a schema change."""
    columns: ClassVar[tuple[Column, ...]]
    """Every key that its ``Scored.values`` may hold, no more."""
    languages: frozenset[str] | None
    """Languages that it can name, ISO 639-1 where one exists, else 639-3; None if language is none of its business."""
    revision: str
    """Names the weights (a hash); written into every manifest."""

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch.

        Returns:
            B answers in input order. The company an item travels in does not change its answer.

        Raises:
            Exception: nothing was scored. What a library says of the card is sorted by ``score_with_bisection``, for
            all.
        """
        ...

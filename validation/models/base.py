"""The interface of one model, and the batch that a model scores.

This module needs only numpy and ``validation.domain``, because the GPU benchmark runs on machines without the other
packages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, ColumnType

__all__ = ["Answering", "Batch", "Column", "ColumnType", "LaunchableModel", "SegmentModel"]

Answering: TypeAlias = Callable[[], Sequence[Answer]]
"""A function that waits for the work of a model on a batch, and returns one answer per segment, in order.

It is called once, by any thread.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that a model scores together.

    Attributes:
        waveforms: (B, T) float32 mono samples in [-1, 1] at ``SAMPLE_RATE``, zero-padded on the right.
        lengths: (B,) int64 true lengths in samples, ``1 <= lengths[i] <= T``.
        texts: B stored transcripts, as the tar has them.
        languages: B declared languages, None for a segment without one.
        requested_models: B items: the names of the models that must score the segment, or None for all models.
        uploads: the copies of the audio on devices, by device; ``upload.upload`` fills and reads them.
    """

    waveforms: NDArray[np.float32]
    lengths: NDArray[np.int64]
    texts: Sequence[str]
    languages: Sequence[str | None]
    requested_models: Sequence[Sequence[str] | None]
    uploads: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

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
    """Normalised codes of the languages that the model can identify; None for a model that is no LID model."""
    revision: str
    """The weights and the variant of the computation, such as ``<hash>-float32``. Every manifest records it."""

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Score a batch.

        Returns:
            B answers in the order of the segments. The answer for a segment does not depend on the rest of the batch.

        Raises:
            Exception: the model failed, and no segment has an answer. ``batching.Bisection`` handles the error.
        """
        ...


@runtime_checkable
class LaunchableModel(SegmentModel, Protocol):
    """A model with a method that queues its work on the device and returns before the work is done."""

    device: str
    """``cpu`` or ``cuda``."""

    def launch(self, batch: Batch) -> Answering:
        """Queue the work for a batch on the device; return the function that waits for it and makes the answers.

        On a GPU the call should return while the GPU still computes, so it reads no result. On a CPU it returns when
        the work is done. ``launch(batch)()`` returns the same as ``score(batch)``. Only one thread may launch at a
        time. Another thread may call the function of an earlier launch meanwhile.

        Raises:
            Exception: the model failed, as in ``score``. The returned function raises such an error too.
        """
        ...

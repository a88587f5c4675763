"""The interface of one model, and the batch that a model scores.

This module imports no package that a bare GPU machine may lack.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, ColumnType

__all__ = ["Answering", "Batch", "Column", "ColumnType", "LaunchableModel", "SegmentModel"]

Answering: TypeAlias = Callable[[], Sequence[Answer]]
"""A function that waits for the work of a model on a batch, and returns the answers. Any thread may call it, once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Segments that a model scores together.

    Attributes:
        waveforms: (B, T) float32 mono samples in [-1, 1] at ``SAMPLE_RATE``, zero-padded on the right.
        lengths: (B,) int64 true lengths in samples, ``1 <= lengths[i] <= T``.
        texts: B stored transcripts, as the tar has them.
        languages: B declared languages, None for a segment without one.
        requested_models: B items: the names of the models that must score the segment, or None for all models.
        uploads: the audio on each device that has it: see ``upload.upload``.
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
    """Normalised codes of the languages that the model can identify; None if the model identifies no languages."""
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
    """A model that computes on a device, and whose device work can be queued without waiting for it."""

    device: str
    """``cpu`` or ``cuda``."""

    def launch(self, batch: Batch) -> Answering:
        """Queue the device work for a batch; return the function that waits for it and makes the answers.

        Between the call and the end of the device work the host reads no result. Only one thread may launch at a time;
        another thread may make the answers meanwhile. ``score(batch)`` returns the same as ``launch(batch)()``.

        Raises:
            Exception: as ``score``; the returned function may raise too.
        """
        ...

"""The interfaces of the models: one model (`SegmentModel`), and a suite of models wherever it runs (`Scorer`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, ColumnType, Seconds, Utterance
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

__all__ = ["Batch", "Column", "ColumnType", "Scorer", "ScoringJob", "SegmentModel"]


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


class ScoringJob(Protocol):
    """Utterances that were given to a scorer, and their answers as they come."""

    def wait(self, timeout_s: Seconds | None = None) -> bool:
        """Wait until the job has ended, at most ``timeout_s``; return whether it has ended.

        Raises:
            Transient: the models could not answer; the same utterances can be given to the scorer again.
        """
        ...

    def answers(self) -> Sequence[Mapping[str, Answer] | None]:
        """Return the answers so far, by model name, in the order of the utterances; None where none has come yet."""
        ...

    def cancel(self) -> None:
        """Give up the utterances that have no answer yet; the job ends without them."""
        ...


class Scorer(Protocol):
    """A suite of models, either in this process or in the inference server."""

    name: str
    roles: SuiteRoles
    rules: Rules
    revisions: Mapping[str, str]
    columns: Mapping[str, Sequence[Column]]

    def begin(self, utterances: Sequence[Utterance]) -> ScoringJob:
        """Start to score utterances with every model and return at once. Safe from any thread."""
        ...

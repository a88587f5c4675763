"""The interfaces of the models: one model (`SegmentModel`), and a suite of models wherever it runs (`Scorer`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from validation.domain import Answer, Column, ColumnType, Seconds, Utterance
from validation.scoring.signals import SuiteRoles
from validation.scoring.verdict import Rules

__all__ = ["Batch", "Column", "ColumnType", "CompletedJob", "Scorer", "ScoringJob", "SegmentModel", "SyncScorerMixin"]


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


class SyncScorerMixin:
    """A mixin that makes a ``Scorer`` of a class with a blocking ``score``."""

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Score utterances with every model; answers in the same order, by model name."""
        raise NotImplementedError

    def begin(self, utterances: Sequence[Utterance]) -> "CompletedJob":
        """Make a job that scores the utterances when its caller first waits for it."""
        return CompletedJob(self, utterances)


class CompletedJob:
    """A ``ScoringJob`` that is scored in the thread of the caller of ``wait``, whatever the timeout."""

    def __init__(self, scorer: SyncScorerMixin, utterances: Sequence[Utterance]) -> None:
        self._scorer, self._utterances = scorer, utterances
        self._answers: list[dict[str, Answer] | None] = [None] * len(utterances)
        self._has_ended = not utterances

    def wait(self, timeout_s: Seconds | None = None) -> bool:  # noqa: ARG002 - no other thread works on it
        if not self._has_ended:
            self._answers = [*self._scorer.score(self._utterances)]
            self._has_ended = True
        return True

    def answers(self) -> list[dict[str, Answer] | None]:
        return self._answers

    def cancel(self) -> None:
        self._has_ended = True

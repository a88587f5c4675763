"""Scoring that is begun when somebody waits for it: how models in one's own process answer."""

from collections.abc import Sequence

from validation.domain import Answer, Seconds, Utterance


class SyncScorerMixin:
    """A mixin for scorers that answer while their caller waits."""

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Ask every model about every utterance; answers in the same order, by model name."""
        raise NotImplementedError

    def begin(self, utterances: Sequence[Utterance]) -> "CompletedJob":
        """Ask about utterances; they are scored once the answers are waited for."""
        return CompletedJob(self, utterances)


class CompletedJob:
    """Utterances whose answers are made by whoever waits for them, however long it takes."""

    def __init__(self, scorer: SyncScorerMixin, utterances: Sequence[Utterance]) -> None:
        self._scorer, self._utterances = scorer, utterances
        self._answers: list[dict[str, Answer] | None] = [None] * len(utterances)
        self._is_over = not utterances

    def wait(self, timeout_s: Seconds | None = None) -> bool:  # noqa: ARG002 - nobody else works meanwhile
        if not self._is_over:
            self._answers = [*self._scorer.score(self._utterances)]
            self._is_over = True
        return True

    def answers(self) -> list[dict[str, Answer] | None]:
        return self._answers

    def cancel(self) -> None:
        self._is_over = True

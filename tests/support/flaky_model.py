"""A model of no weight, which says the transcript back and cannot bear some."""

from collections.abc import Sequence

from validation.domain import Answer, Column, Scored
from validation.models.base import Batch


class Fussy:
    """Fails on every batch that holds a poisoned transcript."""

    name = "fussy"
    columns = (Column("said", "str", "text", "The transcript."),)
    languages = None
    revision = "1"

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def score(self, batch: Batch) -> Sequence[Answer]:
        self.batches.append(batch)
        if "poison" in batch.texts:
            raise RuntimeError("I cannot bear it")
        return [Scored({"said": text}) for text in batch.texts]

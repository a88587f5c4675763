"""A model without weights that echoes the transcript and fails on some."""

from collections.abc import Sequence

from validation.domain import Answer, Column, Scored
from validation.models.base import Batch


class FlakyModel:
    """Fails on every batch that holds the transcript `poison`."""

    name = "flaky"
    columns = (Column("said", "str", "text", "The transcript."),)
    languages = None
    revision = "1"

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def score(self, batch: Batch) -> Sequence[Answer]:
        self.batches.append(batch)
        if "poison" in batch.texts:
            raise RuntimeError("poison is in the batch")
        return [Scored({"said": text}) for text in batch.texts]

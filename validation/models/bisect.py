"""One bad segment costs nobody else an answer."""

from collections.abc import Callable

from validation.domain import Answer, Fault, Unscored
from validation.hardware.gpu_errors import GpuLost, GpuOutOfMemory, classify_gpu_errors
from validation.models.base import Batch, SegmentModel
from validation.models.batching import take_rows


def score_with_bisection(model: SegmentModel, batch: Batch, *, on_overrun: Callable[[Batch], None]) -> list[Answer]:
    """Score a batch; where that fails, find out whose fault it is.

    A batch that fails is halved and each half scored by itself, until the guilty item stands alone. So one bad
    item among B costs about ``2 log2 B`` further calls, and its companions the same answers as without it. A batch
    that is too large for the card is halved in the same way, until it fits; but first it is tried once more, because
    what other models had kept of the memory is free then.

    Args:
        model: whom to ask.
        batch: what to ask about.
        on_overrun: told of every batch of more than one item for which memory did not suffice.

    Returns:
        One answer an item, in order. An item that fails alone is ``Unscored``: ``model_failed``, or
        ``out_of_memory`` where even alone it was too large.

    Raises:
        GpuLost: nothing more can be computed in this process, so no item is to blame.
    """
    return _search(model, batch, on_overrun, tries=2)


def _search(model: SegmentModel, batch: Batch, on_overrun: Callable[[Batch], None], *, tries: int = 1) -> list[Answer]:
    try:
        return _score_batch(model, batch)
    except GpuLost:
        raise
    except GpuOutOfMemory as error:
        if tries > 1:
            return _search(model, batch, on_overrun, tries=tries - 1)
        if len(batch) == 1:
            return [Unscored(Fault("out_of_memory", str(error)))]
        on_overrun(batch)
    except Exception as error:  # noqa: BLE001 - whatever a model throws is its failure to answer, and stays here
        if len(batch) == 1:
            return [Unscored(Fault("model_failed", f"{type(error).__name__}: {error}"))]
    middle = len(batch) // 2
    halves = take_rows(batch, range(middle)), take_rows(batch, range(middle, len(batch)))
    return [answer for half in halves for answer in _search(model, half, on_overrun)]


def _score_batch(model: SegmentModel, batch: Batch) -> list[Answer]:
    answers = classify_gpu_errors(lambda: list(model.score(batch)))
    if len(answers) != len(batch):
        raise ValueError(f"{len(answers)} answers to {len(batch)} segments")
    return answers

"""Running out of a card's memory, told so that somebody can do something about it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from validation.models.base import GpuOutOfMemory


@contextmanager
def report_overrun() -> Iterator[None]:
    """Turn torch's overrun into ``GpuOutOfMemory``, with all that the call took on the card free again.

    The error is raised anew after the old one is gone: a traceback keeps the tensors of its frames alive.
    """
    overrun = None
    try:
        yield
    except torch.OutOfMemoryError as error:
        overrun = str(error)
    if overrun is not None:
        torch.cuda.empty_cache()
        raise GpuOutOfMemory(overrun)

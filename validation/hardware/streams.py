"""Let the GPU work while the host goes on: CUDA streams, called queues here, and CUDA events, called marks.

The GPU does the work of a queue in order. Each thread queues work in the main queue, except inside ``side_queue``.
``Mark`` marks a place in a queue, and ``read_later`` copies to the host without waiting. On a CPU all work is done when
a call returns, so the same code runs there and never waits.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from validation.hardware.device import Device

Readback: TypeAlias = Callable[[], list[NDArray[Any]]]
"""A function that waits for the end of a copy to the host, and returns the copied arrays. Any thread may call it."""


class Mark:
    """A mark in the queue that this thread uses now, behind all work that was queued there before."""

    def __init__(self, device: Device) -> None:
        self._event = (
            torch.cuda.Event(blocking=True) if device == "cuda" else None  # type: ignore[no-untyped-call]
        )
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Make the calling thread wait until the work before the mark is done. The wait uses no CPU."""
        if self._event is not None:
            self._event.synchronize()

    def queue_after(self) -> None:
        """Make work that is queued from now on, in the queue that this thread uses now, begin after the mark.

        The host does not wait.
        """
        if self._event is not None:
            torch.cuda.current_stream().wait_event(self._event)


@contextmanager
def side_queue(device: Device, after: Mark, tensors: Sequence[Tensor] = ()) -> Iterator[None]:
    """Queue the work of this context in the side queue, where it begins as soon as the mark is reached.

    The side queue has priority. In the main queue the work would wait for other models and for the next batch.

    Args:
        device: the device of the work; on a CPU the context changes nothing.
        after: a mark behind the work whose results the context uses.
        tensors: the tensors of the main queue that the context uses. If they are freed earlier, their memory is still
            not used again until the work of the context is done.
    """
    if device != "cuda":
        yield
        return
    stream = _side_stream()
    with torch.cuda.stream(stream):
        after.queue_after()
        for tensor in tensors:
            tensor.record_stream(stream)
        yield


@cache
def _side_stream() -> torch.cuda.Stream:
    """Return the side queue. A process has only one, because torch reuses freed memory only within a queue."""
    return torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]


def read_later(*tensors: Tensor) -> Readback:
    """Queue one copy of all tensors to the host; return a function that waits for the copy and returns the arrays.

    The tensors are on one device. The arrays have their order, shapes and types. On a CPU nothing is copied: the arrays
    share the memory of the tensors.
    """
    if not tensors or tensors[0].device.type != "cuda":
        return lambda: [tensor.numpy() for tensor in tensors]
    packed = torch.cat([tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors])
    host = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
    host.copy_(packed, non_blocking=True)
    mark, shapes, kinds = Mark("cuda"), [tensor.shape for tensor in tensors], [tensor.dtype for tensor in tensors]
    return lambda: unpack(_wait_for(mark, host), shapes, kinds)


def unpack(
    packed: NDArray[np.uint8], shapes: Sequence[Sequence[int]], kinds: Sequence[torch.dtype]
) -> list[NDArray[Any]]:
    """Split bytes, which are those of several tensors one after the other, into arrays of these shapes and types."""
    found, start = [], 0
    for shape, kind in zip(shapes, kinds, strict=True):
        dtype = torch.empty(0, dtype=kind).numpy().dtype
        end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        found.append(np.frombuffer(packed[start:end].tobytes(), dtype).reshape(shape))
        start = end
    return found


def _wait_for(mark: Mark, host: Tensor) -> NDArray[np.uint8]:
    """Wait for a mark, then return a tensor on the host, which is filled before the mark, as an array."""
    mark.wait()
    array: NDArray[np.uint8] = host.numpy()
    return array

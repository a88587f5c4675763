"""A context that fails when the host reads a tensor: on a GPU it would wait there for all queued work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.nonzero,
    torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.__index__,
    torch.Tensor.__array__, torch.nonzero, torch.unique, torch.Tensor.unique, torch.equal, torch.Tensor.equal,
    torch.masked_select, torch.Tensor.masked_select,
}  # fmt: skip
DISPATCHED_READS = {
    "aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal",
    "aten::is_nonzero", "aten::repeat_interleave.Tensor", "aten::unique_consecutive", "aten::_unique2",
}  # fmt: skip
"""Operations inside of others whose result or shape depends on values."""


class HostReadError(AssertionError):
    """The host has read a tensor."""


@contextmanager
def no_host_reads() -> Iterator[None]:
    with _Functions(), _Operations():
        yield


class _Functions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise HostReadError(resolve_name(func))
        return func(*args, **kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func.name() == "aten::index.Tensor" and any(
            one is not None and one.dtype is torch.bool for one in args[1]
        )
        if by_mask or func.name() in DISPATCHED_READS:
            raise HostReadError(func.name())
        return func(*args, **kwargs or {})


class OnlyOnDevice(TorchDispatchMode):
    """Records the copies from the host to the device ``meta``, which stands for a GPU: it has no values to read, and an
    operation that mixes it with the host fails."""

    def __init__(self) -> None:
        super().__init__()
        self.blocking: list[int] = []
        """The sizes of the copies for which the host would wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        if func.name() in {"aten::_to_copy", "aten::copy_"} and result.is_meta:
            source = args[1] if func.name() == "aten::copy_" else args[0]
            waits = not (kwargs or {}).get("non_blocking") and func.name() == "aten::_to_copy"
            if source.device.type == "cpu" and waits:
                self.blocking.append(source.numel())
        return result


class OutsideError(AssertionError):
    """Work was queued outside of the side queue."""


class OnlyInside(TorchDispatchMode):
    """Fails on an operation that computes while ``inside`` is false; views are no work."""

    VIEWS = ("aten::slice", "aten::select", "aten::view", "aten::detach", "aten::resolve_", "aten::to.dtype_layout")
    """Views, and what ``Tensor.numpy`` calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.count = False, 0

    @contextmanager
    def enter(self, *_: object) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.name().startswith(self.VIEWS):
            if not self.inside:
                raise OutsideError(func.name())
            self.count += 1
        return func(*args, **kwargs or {})

"""GPU errors of the libraries, classified by the remedy: a smaller batch, or a new process. Imports no GPU library."""

import re
import sys
from collections.abc import Callable
from typing import TypeVar

from validation.errors import Transient

T = TypeVar("T")


class GpuOutOfMemory(Transient):
    """The memory of the GPU does not suffice for a batch. A smaller batch may fit, on the same model."""


class GpuLost(Transient):
    """The GPU, or the CUDA context of this process, has failed. This process can compute nothing more; another may."""


_TOO_LITTLE = re.compile(
    r"CUDA out of memory"  # torch's allocator
    r"|CUDA error: out of memory|CUDA failure 2:"  # the driver itself, as torch and as ONNX Runtime tell it
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_\w*ALLOC\w*_FAILED"
    r"|Failed to allocate memory|smaller than requested bytes"  # ONNX Runtime's arena
)
_BAD_ARGUMENT = re.compile(r"(?:CUBLAS|CUDNN|CUFFT)_\w*(?:NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE)")
"""A library declines one call and the card is as it was: so it is the model's failure on that batch."""
_BROKEN = re.compile(
    r"CUDA (?:driver )?error|CUDA failure"
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_|(?:cuDNN|cuBLAS|cuFFT|cusolver) error|(?:CUBLAS|CUDNN\w*|CUFFT) failure"
)


def classify_gpu_errors(work: Callable[[], T]) -> T:
    """Do work; raise ``GpuOutOfMemory`` or ``GpuLost`` in place of a library's error that means it.

    At an overrun all that the work took is free again, and what torch keeps for later calls as well: another library
    cannot have that. The error is raised anew after the old one is gone: a traceback keeps the tensors of its frames
    alive, and so does a ``with`` whose body has failed, until it is left.
    """
    try:
        return work()
    except Exception as error:
        found = _sort(error)
        if found is None:
            raise
    if isinstance(found, GpuOutOfMemory):
        _free_cache()
    raise found


def _sort(error: Exception) -> GpuOutOfMemory | GpuLost | None:
    if isinstance(error, GpuOutOfMemory):
        return GpuOutOfMemory(str(error))
    kinds, told = {kind.__name__ for kind in type(error).__mro__}, str(error)
    # Others may quote a transcript, and a transcript may say anything.
    if not (isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")):
        return None
    if "OutOfMemoryError" in kinds or _TOO_LITTLE.search(told):
        return GpuOutOfMemory(told)
    if "AcceleratorError" in kinds or (_BROKEN.search(told) and not _BAD_ARGUMENT.search(told)):
        return GpuLost(f"the card has failed under this process: {told}")
    return None


def _free_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

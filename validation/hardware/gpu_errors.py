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


_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory"  # torch's allocator
    r"|CUDA error: out of memory|CUDA failure 2:"  # the driver itself, as torch and ONNX Runtime report it
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_\w*ALLOC\w*_FAILED"
    r"|Failed to allocate memory|smaller than requested bytes"  # ONNX Runtime's arena
)
_BAD_ARGUMENT = re.compile(r"(?:CUBLAS|CUDNN|CUFFT)_\w*(?:NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE)")
"""The library refuses one call and the GPU still works: the model fails on that batch."""
_GPU_FAILED = re.compile(
    r"CUDA (?:driver )?error|CUDA failure"
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_|(?:cuDNN|cuBLAS|cuFFT|cusolver) error|(?:CUBLAS|CUDNN\w*|CUFFT) failure"
)


def classify_gpu_errors(work: Callable[[], T]) -> T:
    """Run ``work``; raise ``GpuOutOfMemory`` or ``GpuLost`` in place of a library's error with that meaning.

    When memory runs out, the memory of ``work`` is freed first, and torch's cache too, because no other library can use
    it. A new error is raised after the old one is gone: a traceback keeps the tensors of its frames alive, and so does
    a ``with`` block whose body failed, until the block is left.
    """
    try:
        return work()
    except Exception as error:
        found = _classify(error)
        if found is None:
            raise
    if isinstance(found, GpuOutOfMemory):
        _free_cache()
    raise found


def _classify(error: Exception) -> GpuOutOfMemory | GpuLost | None:
    if isinstance(error, GpuOutOfMemory):
        return GpuOutOfMemory(str(error))
    names, message = {kind.__name__ for kind in type(error).__mro__}, str(error)
    # The message of any other error may quote a transcript, which may contain any text.
    if not (isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")):
        return None
    if "OutOfMemoryError" in names or _OUT_OF_MEMORY.search(message):
        return GpuOutOfMemory(message)
    if "AcceleratorError" in names or (_GPU_FAILED.search(message) and not _BAD_ARGUMENT.search(message)):
        return GpuLost(f"the GPU has failed under this process: {message}")
    return None


def _free_cache() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()

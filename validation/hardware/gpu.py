"""Query the GPUs and the driver of this machine, allocate page-locked memory, and convert the errors of GPU libraries.

Errors are classified by their remedy: a smaller batch, or a new process. This module does not import torch or ONNX
Runtime, so processes without models and suites without torch can use it.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from runpy import run_path
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from validation.errors import BadInput, Transient

T = TypeVar("T")


class GpuOutOfMemory(Transient):
    """A batch does not fit in the memory of the GPU. The same model may succeed on a smaller batch."""


class GpuLost(Transient):
    """The GPU or this process's CUDA context has failed. This process cannot use the GPU any more; a new one may."""


_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory"  # torch's allocator
    r"|CUDA error: out of memory|CUDA failure 2:"  # the driver itself, as torch and ONNX Runtime report it
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_\w*ALLOC\w*_FAILED"
    r"|Failed to allocate memory|smaller than requested bytes"  # ONNX Runtime's arena
)
_BAD_ARGUMENT = re.compile(r"(?:CUBLAS|CUDNN|CUFFT)_\w*(?:NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE)")
"""Errors by which a library rejects one call. The GPU still works, so the error counts as a failure of the model."""
_GPU_FAILED = re.compile(
    r"CUDA (?:driver )?error|CUDA failure"
    r"|(?:CUBLAS|CUDNN|CUFFT|CUSOLVER)_|(?:cuDNN|cuBLAS|cuFFT|cusolver) error|(?:CUBLAS|CUDNN\w*|CUFFT) failure"
)


def convert_gpu_errors(work: Callable[[], T]) -> T:
    """Call ``work`` and return its result; replace an error of a GPU library by ``GpuOutOfMemory`` or ``GpuLost``.

    When GPU memory runs out, the memory of ``work`` and torch's cache are freed before the new error is raised. Other
    libraries cannot use memory that torch caches. The old error is dropped first, because its traceback keeps the
    tensors of its frames alive. This is no context manager, because a ``with`` block keeps the error of its body alive.

    Raises:
        GpuOutOfMemory: ``work`` did not fit in GPU memory.
        GpuLost: the GPU or the CUDA context has failed.
        Exception: any other error of ``work``, unchanged.
    """
    try:
        return work()
    except Exception as error:
        found = _classify(error)
        if found is None:
            raise
    if isinstance(found, GpuOutOfMemory):
        _free_torch_cache()
    raise found


def _classify(error: Exception) -> GpuOutOfMemory | GpuLost | None:
    """Return ``GpuOutOfMemory`` or ``GpuLost`` for an error of a GPU library; None for any other error."""
    if isinstance(error, GpuOutOfMemory):
        return GpuOutOfMemory(str(error))
    names, message = {kind.__name__ for kind in type(error).__mro__}, str(error)
    # Messages of other errors are not searched: they may quote a transcript, which may contain any text.
    if not (isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")):
        return None
    if "OutOfMemoryError" in names or _OUT_OF_MEMORY.search(message):
        return GpuOutOfMemory(message)
    if "AcceleratorError" in names or (_GPU_FAILED.search(message) and not _BAD_ARGUMENT.search(message)):
        return GpuLost(f"the GPU has failed under this process: {message}")
    return None


def _free_torch_cache() -> None:
    """Return the GPU memory that torch caches to the driver, if torch is in use."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


MIN_DRIVERS: Mapping[int, str] = {11: "450.80", 12: "525.60", 13: "580.65"}
"""The oldest sufficient Linux driver per major CUDA version (CUDA Compatibility, table 1). It runs programs that were
built for any minor version of that major version. A newer driver also runs programs for all earlier major versions."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as NVML reports it."""

    name: str
    memory_gib: float


class DriverTooOld(BadInput):
    """The GPU driver of this machine cannot run the CUDA version that the image was built for."""

    def __init__(self, driver: str, needs: int) -> None:
        self.driver, self.needs = driver, needs
        newest = max((cuda for cuda in MIN_DRIVERS if supports_cuda(driver, cuda)), default=None)
        supported = f"CUDA {newest} at most" if newest else "no known CUDA version"
        super().__init__(
            f"driver {driver} supports {supported}, and this image was built for CUDA {needs}: rent a machine with "
            f"driver {MIN_DRIVERS[needs]} or newer"
        )


def read_gpus() -> tuple[Gpu, ...]:
    """List the GPUs that NVML reports; return an empty tuple without NVML or without a driver."""

    def read(nvml: ModuleType) -> tuple[Gpu, ...]:
        handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(nvml.nvmlDeviceGetName(handle), round(nvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 1))
            for handle in handles
        )

    return _query_nvml(read) or ()


def read_driver_version() -> str | None:
    """Read the version of the GPU driver; return None without NVML or without a driver."""
    return _query_nvml(lambda nvml: str(nvml.nvmlSystemGetDriverVersion()))


def supports_cuda(driver: str, cuda: int) -> bool:
    """Return whether a driver, such as 535.183.01, runs programs that were built for the major CUDA version ``cuda``.

    The result is True for a CUDA version that ``MIN_DRIVERS`` does not list.
    """
    minimum = MIN_DRIVERS.get(cuda)
    return minimum is None or _parse_driver_version(driver) >= _parse_driver_version(minimum)


def check_cuda_support(driver: str, needs: int) -> None:
    """Check that a driver runs programs that were built for the major CUDA version ``needs``.

    Raises:
        DriverTooOld: the driver does not support that CUDA version.
    """
    if not supports_cuda(driver, needs):
        raise DriverTooOld(driver, needs)


@cache
def find_built_cuda_major() -> int | None:
    """Find the major CUDA version that torch or ONNX Runtime was built for, without importing either.

    Returns:
        The newer of both versions; None if each package is a CPU build or not installed.
    """
    found = [
        _read_cuda_major("torch", "version.py", "cuda"),
        _read_cuda_major("onnxruntime", "capi/build_and_package_info.py", "cuda_version"),
    ]
    return max((major for major in found if major), default=None)


def allocate_pinned_memory(shape: tuple[int, int], dtype: type[np.float32]) -> NDArray[np.float32]:
    """Allocate an uninitialised array, in page-locked memory if torch is loaded and finds a GPU.

    A GPU copies from page-locked memory without help of the CPU. Locking pages is slow, but torch caches freed
    page-locked memory, so only the first few batches are slower.

    Returns:
        A float32 array of this shape. Without torch or a GPU, an array of ``dtype`` in ordinary memory.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return np.empty(shape, dtype)
    pinned: NDArray[np.float32] = torch.empty(shape, dtype=torch.float32, pin_memory=True).numpy()
    return pinned


def _query_nvml(query: Callable[[ModuleType], T]) -> T | None:
    """Run ``query`` while NVML is initialised; return None if NVML is not installed or finds no driver."""
    try:
        import pynvml  # noqa: PLC0415 - comes with the `gpu` extra only
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return query(pynvml)
    finally:
        pynvml.nvmlShutdown()


def _parse_driver_version(driver: str) -> tuple[int, ...]:
    """Return the first two numbers of a driver version, such as (535, 183)."""
    return tuple(int(part) for part in re.findall(r"\d+", driver)[:2])


def _read_cuda_major(package: str, file: str, name: str) -> int | None:
    """Read a version from the variable ``name`` in a file of a package; return its major number.

    The result is None if the package or the file is missing, or if the variable is missing or empty.
    """
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], file) if spec and spec.submodule_search_locations else None
    value = run_path(str(path)).get(name) if path and path.exists() else None
    return int(str(value).split(".", maxsplit=1)[0]) if value else None

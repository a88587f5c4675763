"""GPU errors in the words of each library, and their classes. No GPU is needed."""

import gc
import weakref
from functools import partial

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

from validation.hardware.gpu import GpuLost, GpuOutOfMemory, convert_gpu_errors

TOO_LITTLE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
    RuntimeException(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : BFCArena::AllocateRawInternal: Failed to allocate "
        "memory for requested buffer of size 9000000000"
    ),
    Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);"),
    EPFail(
        "[ONNXRuntimeError] : 11 : EP_FAIL : CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"
    ),
    EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0"),
    GpuOutOfMemory("so a model says itself"),
]
BROKEN = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"),
    Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
    EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0"),
]
OWN = [
    ValueError("the shape is wrong"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    RuntimeError(
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm(...)`"),
    Fail("[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Expand node"),
    ValueError("no token spells 'CUDA error: an illegal memory access was encountered'"),
]


def fail(error: Exception) -> None:
    raise error


def named(errors: list[Exception]) -> dict:
    return {"argvalues": errors, "ids": [f"{type(error).__name__}: {str(error)[:60]}" for error in errors]}


@pytest.mark.parametrize("error", **named(TOO_LITTLE))
def test_out_of_memory_is_recognised_for_every_library(error):
    """Out of memory has a class of its own, because only then a smaller batch helps."""
    with pytest.raises(GpuOutOfMemory):
        convert_gpu_errors(partial(fail, error))


@pytest.mark.parametrize("error", **named(BROKEN))
def test_a_failed_gpu_is_recognised_for_every_library(error):
    """After such an error every call of this process fails, so no segment is to blame."""
    with pytest.raises(GpuLost, match="the GPU has failed"):
        convert_gpu_errors(partial(fail, error))


@pytest.mark.parametrize("error", **named(OWN))
def test_other_errors_are_raised_unchanged(error):
    """An error of the model itself is not classified, whatever a quoted transcript says."""
    with pytest.raises(type(error)) as raised:
        convert_gpu_errors(partial(fail, error))
    assert raised.value is error


def test_out_of_memory_frees_the_cache_of_torch(monkeypatch):
    """ONNX Runtime cannot use memory of the same GPU that torch has cached."""
    freed = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    for error in (*TOO_LITTLE, *BROKEN):
        with pytest.raises((GpuOutOfMemory, GpuLost)):
            convert_gpu_errors(partial(fail, error))
    assert len(freed) == len(TOO_LITTLE)


def test_tensors_of_the_failed_call_are_freed_before_the_cache(monkeypatch):
    """A traceback keeps the tensors of its frames alive, and memory in use stays in the cache."""
    held = []

    def overrun() -> None:
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(held[0]() is None))
    gc.disable()
    try:
        with pytest.raises(GpuOutOfMemory):
            convert_gpu_errors(overrun)
    finally:
        gc.enable()
    assert held[1]

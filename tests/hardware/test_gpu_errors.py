"""What a card's libraries raise, in their own words, and what becomes of it. No card is needed."""

import gc
import weakref
from functools import partial

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, RuntimeException

from validation.hardware.gpu_errors import GpuLost, GpuOutOfMemory, classify_gpu_errors

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
def test_too_little_memory_is_known_in_every_librarys_words(error):
    """The suite asks for less then, which it must do for no other failure."""
    with pytest.raises(GpuOutOfMemory):
        classify_gpu_errors(partial(fail, error))


@pytest.mark.parametrize("error", **named(BROKEN))
def test_a_broken_card_is_known_in_every_librarys_words(error):
    """After one of these every call of this process fails: no segment is to blame, and none may be told that it is."""
    with pytest.raises(GpuLost, match="the card has failed"):
        classify_gpu_errors(partial(fail, error))


@pytest.mark.parametrize("error", **named(OWN))
def test_any_other_failure_stays_what_it_is(error):
    """A model's own failure is nobody else's, whatever words a transcript brings into it."""
    with pytest.raises(type(error)) as raised:
        classify_gpu_errors(partial(fail, error))
    assert raised.value is error


def test_an_overrun_of_any_library_frees_what_torch_keeps(monkeypatch):
    """Memory that torch has cached is lost to ONNX Runtime on the same card until it is given back."""
    freed = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    for error in (*TOO_LITTLE, *BROKEN):
        with pytest.raises((GpuOutOfMemory, GpuLost)):
            classify_gpu_errors(partial(fail, error))
    assert len(freed) == len(TOO_LITTLE)


def test_what_the_failed_call_held_is_gone_when_the_cache_is_freed(monkeypatch):
    """A traceback keeps the tensors of its frames alive, and a cache cannot give back what is in use."""
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
            classify_gpu_errors(overrun)
    finally:
        gc.enable()
    assert held[1]

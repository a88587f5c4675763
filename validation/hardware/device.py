"""The device and the precision in which a suite's networks compute."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from validation.errors import BadInput

Device: TypeAlias = Literal["cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """The device on which a suite computes, and the precision of the weights of its large networks."""

    device: Device = "cpu"
    precision: Precision = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]

    @property
    def tf32(self) -> bool:
        """Whether small networks that compute in float32 may multiply in TF32, which keeps ten fraction bits.

        They may where the large networks compute in half precision, which keeps as many or fewer. Without TF32 a GPU
        does not use its tensor cores for float32, and the products take several times as long.
        """
        return self.device == "cuda" and self.precision != "float32"


def select_device(device: Literal["auto", "cpu", "cuda"], precision: Literal["auto"] | Precision) -> DeviceConfig:
    """Choose the device and the precision of the networks.

    The device ``auto`` is the GPU if torch finds one, else the CPU. The precision ``auto`` is float16 on a GPU and
    float32 on a CPU. Rounding to float16 changes MMS-LID's logits five to ten times less than rounding to bfloat16.

    Raises:
        BadInput: ``device`` is ``cuda`` but torch finds no GPU. A rented GPU box must not compute on its CPU instead.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise BadInput(
            f"VFLEET_DEVICE is cuda, but torch {torch.__version__} sees no GPU: check `nvidia-smi` and the driver, "
            "or set VFLEET_DEVICE=cpu"
        )
    chosen: Device = "cuda" if has_gpu and device != "cpu" else "cpu"
    default: Precision = "float16" if chosen == "cuda" else "float32"
    return DeviceConfig(chosen, default if precision == "auto" else precision)


def disable_tf32() -> None:
    """Disable TF32 in torch, so that float32 keeps all 23 fraction bits. With TF32, GPU convolutions keep ten bits.

    Model revisions that state float32, and the promise that padding changes an answer by at most 1e-5, do not hold with
    TF32. Sessions of ONNX Runtime disable TF32 too. A model that allows TF32 says so in its revision.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def allowing_tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in torch inside this context, for all threads of the process; then restore the setting."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def device_from_settings() -> DeviceConfig:
    """Choose the device and the precision from the settings, and disable TF32 in this process.

    The settings are VFLEET_DEVICE and VFLEET_PRECISION; see ``select_device``.

    Raises:
        BadInput: VFLEET_DEVICE is ``cuda`` but torch finds no GPU.
    """
    disable_tf32()
    from validation.settings import load_settings  # noqa: PLC0415 - the GPU benchmark runs without pydantic

    settings = load_settings()
    return select_device(settings.device, settings.precision)

"""The device and the precision in which a suite's networks compute."""

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
    """A device, and the precision of the large networks' weights on it."""

    device: Device = "cpu"
    precision: Precision = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]


def select_device(device: Literal["auto", "cpu", "cuda"], precision: Literal["auto"] | Precision) -> DeviceConfig:
    """Choose a device and a precision.

    ``auto`` chooses the GPU if torch finds one, and half precision on it: float16, because its rounding changes
    MMS-LID's logits five to ten times less than that of bfloat16.

    Raises:
        BadInput: ``cuda`` is asked for and torch finds no GPU. A rented box must not do the work of a GPU on its CPU.
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
    """Make torch compute float32 with all 23 bits of the fraction. By default convolutions on a GPU keep ten.

    Model revisions say float32, padding must not change an answer by more than 1e-5, and ONNX Runtime is set alike.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def device_from_settings() -> DeviceConfig:
    """Choose the device and precision by VFLEET_DEVICE and VFLEET_PRECISION, and disable TF32 in this process.

    Raises as ``select_device`` does.
    """
    disable_tf32()
    from validation.settings import load_settings  # noqa: PLC0415 - the GPU benchmark runs without pydantic

    settings = load_settings()
    return select_device(settings.device, settings.precision)

"""Where a suite's networks compute, and how finely."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from validation.errors import BadInput
from validation.settings import load_settings

Device: TypeAlias = Literal["cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "float16", "bfloat16"]

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A device, and the type of the weights of what is large there."""

    device: Device = "cpu"
    precision: Precision = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.precision]


def select_device(device: Literal["auto", "cpu", "cuda"], precision: Literal["auto"] | Precision) -> DeviceConfig:
    """Settle on a device and a precision.

    ``auto`` is the card where torch sees one, and there half precision: float16, whose rounding moves MMS-LID's
    logits five to ten times less than bfloat16's.

    Raises:
        BadInput: the card is asked for and torch sees none. A rented box must never do a card's work on its CPU.
    """
    seen = torch.cuda.is_available()
    if device == "cuda" and not seen:
        raise BadInput(f"VFLEET_DEVICE is cuda, but torch {torch.__version__} sees no card")
    chosen: Device = "cuda" if seen and device != "cpu" else "cpu"
    fitting: Precision = "float16" if chosen == "cuda" else "float32"
    return DeviceConfig(chosen, fitting if precision == "auto" else precision)


def forbid_tf32() -> None:
    """Let torch compute what is float32 with all of its bits. By default convolutions on a card keep ten of 23.

    A revision says float32, padding moves an answer by no more than 1e-5, and ONNX Runtime is held to the same.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def place_by_settings() -> DeviceConfig:
    """Settle on what VFLEET_DEVICE and VFLEET_PRECISION leave open. Raises as ``select_device``.

    Whatever is computed in single precision is so from then on.
    """
    forbid_tf32()
    settings = load_settings()
    return select_device(settings.device, settings.precision)

"""The card: is it there, and can what is installed compute on it?"""

import importlib.util

import numpy as np

from validation.errors import BadInput
from validation.hardware.driver import built_for, read_driver, require_driver
from validation.hardware.gpu import read_gpus
from validation.settings import Settings

_SAME = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a0208014202100d"
)
"""The smallest graph there is, y = x for one float32, as ONNX writes it (IR 8, opset 13)."""


def check_gpu(settings: Settings) -> str | None:
    """A card is there where one is wanted, and it is the one that was ordered."""
    cards, wanted = read_gpus(), (settings.gpu_type or "").replace("_", " ")
    names = ", ".join(f"{card.name} ({card.memory_gib} GiB)" for card in cards)
    if settings.device == "cuda" and not cards:
        raise BadInput("VFLEET_DEVICE is cuda, and the driver shows no card: start the container with --gpus all")
    if settings.device == "cuda" and wanted not in names:
        raise BadInput(f"a {wanted} was ordered, and the driver shows {names}: destroy this machine and rent another")
    return names or None


def check_driver(settings: Settings) -> str | None:
    """The driver is new enough for the CUDA of the image."""
    driver, needs = read_driver(), built_for()
    if settings.device == "cuda" and driver is None:
        raise BadInput(
            "VFLEET_DEVICE is cuda, and the driver's library (NVML) does not load: start the container with --gpus all"
        )
    if settings.device == "cpu" or driver is None or needs is None:
        return None
    require_driver(driver, needs)
    return f"driver {driver} runs CUDA {needs}, for which this image was built"


def check_onnxruntime(settings: Settings) -> str | None:
    """ONNX Runtime was built for the card where one is wanted. Cheap: no card is touched."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # noqa: PLC0415 - a control machine has none

    providers = onnxruntime.get_available_providers()
    if settings.device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BadInput(
            f"ONNX Runtime {onnxruntime.__version__} has {', '.join(providers)} and no CUDA: "
            "pip install 'validation-fleet[gpu]', without onnxruntime beside it"
        )
    return f"{onnxruntime.__version__} with {', '.join(providers)}"


def check_onnx_session(settings: Settings) -> str | None:
    """ONNX Runtime computes on the card where one is wanted: what it was built with may not load, or see none.

    Touches the card, which costs a process hundreds of megabytes of its memory: not for one that stays.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    from validation.models.onnx import open_session  # noqa: PLC0415 - a control machine has no ONNX Runtime

    try:
        session = open_session(_SAME, threads=1, device="cuda" if settings.device == "cuda" else "cpu")
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    except BadInput:
        raise
    except Exception as error:  # ONNX Runtime's own have no ancestor in common
        told = (str(error).splitlines() or [repr(error)])[0]
        raise BadInput(
            f"ONNX Runtime cannot compute here: rent another machine, or mend its driver ({told})"
        ) from error
    return f"computes with {', '.join(session.get_providers())}"

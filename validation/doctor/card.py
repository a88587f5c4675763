"""The card: is it there, and can what is installed compute on it?"""

import importlib.util

from validation.errors import BadInput
from validation.models.driver import built_for, read_driver, require_driver
from validation.models.gpu import read_gpus
from validation.settings import Settings


def check_card(settings: Settings) -> str | None:
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
    if settings.device == "cpu" or driver is None or needs is None:
        return None
    require_driver(driver, needs)
    return f"driver {driver} runs CUDA {needs}, for which this image was built"


def check_onnxruntime(settings: Settings) -> str | None:
    """ONNX Runtime computes on the card where one is wanted. By itself it falls back to the CPU without a word."""
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

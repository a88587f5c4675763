"""The card: is it there, and can what is installed compute on it?"""

import importlib.util
from functools import cache
from pathlib import Path
from runpy import run_path

from validation.errors import BadInput
from validation.models.gpu import read_gpus
from validation.settings import Settings

_LEAST_DRIVERS = {11: "450.80", 12: "525.60", 13: "580.65"}
"""The oldest Linux driver that runs any program of a major CUDA version (CUDA Compatibility, table 1)."""


class DriverTooOld(BadInput):
    """The machine's driver cannot run what the image was built for."""

    def __init__(self, driver: str, bears: int, needs: int) -> None:
        self.driver, self.bears, self.needs = driver, bears, needs
        super().__init__(
            f"driver {driver} runs programs up to CUDA {bears}, and this image was built for CUDA {needs}: rent a "
            f"machine with driver {_LEAST_DRIVERS.get(needs, 'of a newer kind')} or newer, or an image for CUDA {bears}"
        )


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
    found, needs = read_driver(), built_for()
    if settings.device == "cpu" or found is None or needs is None:
        return None
    driver, bears = found
    require_driver(driver, bears, needs)
    return f"driver {driver} runs CUDA {bears}, the image needs {needs}"


def require_driver(driver: str, bears: int, needs: int) -> None:
    """Compare majors: within one, every driver runs every program.

    Raises:
        DriverTooOld: the driver is of an earlier one.
    """
    if bears < needs:
        raise DriverTooOld(driver, bears, needs)


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


def read_driver() -> tuple[str, int] | None:
    """The driver's version and the newest CUDA major that it runs; None where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415 - comes with the `gpu` extra only
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlSystemGetDriverVersion()), int(pynvml.nvmlSystemGetCudaDriverVersion()) // 1000
    finally:
        pynvml.nvmlShutdown()


@cache
def built_for() -> int | None:
    """The newest CUDA major that torch or ONNX Runtime was built for; None where neither was. Loads neither."""
    found = [
        _built_for("torch", "version.py", "cuda"),
        _built_for("onnxruntime", "capi/build_and_package_info.py", "cuda_version"),
    ]
    return max((major for major in found if major), default=None)


def _built_for(package: str, file: str, name: str) -> int | None:
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], file) if spec and spec.submodule_search_locations else None
    stated = run_path(str(path)).get(name) if path and path.exists() else None
    return int(str(stated).split(".", maxsplit=1)[0]) if stated else None

"""The card's driver, and whether it can run the CUDA that is installed here."""

import importlib.util
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from runpy import run_path

from validation.errors import BadInput

MIN_DRIVERS: Mapping[int, str] = {11: "450.80", 12: "525.60", 13: "580.65"}
"""The oldest Linux driver that runs every program of a major CUDA version (CUDA Compatibility, table 1). Within a major
each driver runs each program, and a newer driver runs the programs of all majors before."""


class DriverTooOld(BadInput):
    """The machine's driver cannot run what the image was built for."""

    def __init__(self, driver: str, needs: int) -> None:
        self.driver, self.needs = driver, needs
        newest = max((cuda for cuda in MIN_DRIVERS if supports_cuda(driver, cuda)), default=None)
        bears = f"CUDA {newest} at most" if newest else "no CUDA that we know"
        super().__init__(
            f"driver {driver} runs programs of {bears}, and this image was built for CUDA {needs}: rent a machine with "
            f"driver {MIN_DRIVERS[needs]} or newer"
        )


def supports_cuda(driver: str, cuda: int) -> bool:
    """Whether a driver, such as 535.183.01, runs programs of a major CUDA version; yes for one not in the table."""
    least = MIN_DRIVERS.get(cuda)
    return least is None or _version(driver) >= _version(least)


def require_driver(driver: str, needs: int) -> None:
    """Hold the driver against the CUDA that programs here were built for.

    Raises:
        DriverTooOld: it cannot run them.
    """
    if not supports_cuda(driver, needs):
        raise DriverTooOld(driver, needs)


def read_driver() -> str | None:
    """The driver's version; None where there is no driver."""
    try:
        import pynvml  # noqa: PLC0415 - comes with the `gpu` extra only
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
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


def _version(driver: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", driver)[:2])


def _built_for(package: str, file: str, name: str) -> int | None:
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], file) if spec and spec.submodule_search_locations else None
    stated = run_path(str(path)).get(name) if path and path.exists() else None
    return int(str(stated).split(".", maxsplit=1)[0]) if stated else None

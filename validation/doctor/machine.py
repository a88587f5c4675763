"""Checks of the machine itself: disk, clock, package versions, models, and computation on the GPU."""

import importlib.util
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from validation.doctor.check import CheckWarning
from validation.doctor.database import read_session
from validation.domain import MIN_DISK_BYTES, Seconds
from validation.errors import BadInput
from validation.hardware.gpu import check_cuda_support, find_built_cuda_major, read_driver_version, read_gpus
from validation.models.self_test import run_self_test
from validation.models.suite import load_suite
from validation.settings import Settings

_IDENTITY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a0208014202100d"
)
"""The smallest ONNX model: y = x for one float32 (IR 8, opset 13)."""


def check_gpu(settings: Settings) -> str | None:
    """Check that the machine has a GPU, of the ordered model, if VFLEET_DEVICE is cuda. None if it has no GPU."""
    gpus, ordered = read_gpus(), (settings.gpu_type or "").replace("_", " ")
    names = ", ".join(f"{gpu.name} ({gpu.memory_gib} GiB)" for gpu in gpus)
    if settings.device == "cuda" and not gpus:
        raise BadInput("VFLEET_DEVICE is cuda, and the driver shows no GPU: start the container with --gpus all")
    if settings.device == "cuda" and ordered not in names:
        raise BadInput(f"a {ordered} was ordered, and the driver shows {names}: destroy this box and rent another")
    return names or None


def check_driver(settings: Settings) -> str | None:
    """Check that the driver supports the CUDA version that the image was built for."""
    driver, cuda = read_driver_version(), find_built_cuda_major()
    if settings.device == "cuda" and driver is None:
        raise BadInput(
            "VFLEET_DEVICE is cuda, and the driver's library (NVML) does not load: start the container with --gpus all"
        )
    if settings.device == "cpu" or driver is None or cuda is None:
        return None
    check_cuda_support(driver, cuda)
    return f"driver {driver} supports CUDA {cuda}, for which this image was built"


def check_onnxruntime(settings: Settings) -> str | None:
    """Check that ONNX Runtime was built for CUDA if a GPU is required. The check is fast and does not use the GPU."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime  # noqa: PLC0415 - a control machine has no ONNX Runtime

    providers = onnxruntime.get_available_providers()
    if settings.device == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BadInput(
            f"ONNX Runtime {onnxruntime.__version__} has {', '.join(providers)} and no CUDA: "
            "pip install 'validation-fleet[gpu]', without onnxruntime beside it"
        )
    return f"{onnxruntime.__version__} with {', '.join(providers)}"


def check_onnx_session(settings: Settings) -> str | None:
    """Check that ONNX Runtime can compute, on the GPU if one is required. A CUDA library may fail to load.

    The check opens a CUDA context, which takes hundreds of MB of GPU memory until the process ends. Therefore a worker
    does not run this check.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    from validation.models.onnx import create_onnx_session  # noqa: PLC0415 - a control machine has no ONNX Runtime

    try:
        session = create_onnx_session(_IDENTITY_MODEL, threads=1, device="cuda" if settings.device == "cuda" else "cpu")
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    except BadInput:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base class
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise BadInput(
            f"ONNX Runtime cannot compute on this box: rent another one, or repair its driver ({reason})"
        ) from error
    return f"computes with {', '.join(session.get_providers())}"


WARN_SKEW_S: Seconds = 10.0
"""Clock difference above which times of this machine and times of the ledger cannot be compared."""
MAX_SKEW_S: Seconds = 600.0
"""Clock difference above which the check fails. Object stores refuse signatures that are 15 minutes off."""
_PACKAGES = ("validation-fleet", "prefect", "sqlalchemy", "obstore", "pyarrow")


def check_versions(_settings: Settings) -> str:
    """Return the installed versions, so that an operator can compare two machines."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _PACKAGES)])


def check_disk(_settings: Settings) -> str:
    """Check that at least `MIN_DISK_BYTES` of disk are free, for the files of two chunks."""
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_DISK_BYTES:
        raise BadInput(
            f"only {free >> 20} MiB of disk are free: free at least {MIN_DISK_BYTES >> 30} GiB, or rent a box with more"
        )
    return f"{free >> 30} GiB free"


def check_clock(settings: Settings) -> str:
    """Compare this machine's clock with the database's: warn above `WARN_SKEW_S`, fail above `MAX_SKEW_S`."""
    before = time.time()
    database = read_session(settings).now.timestamp()
    skew_s = database - (before + time.time()) / 2
    finding = f"this machine's clock is {abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the database's"
    if abs(skew_s) > MAX_SKEW_S:
        raise BadInput(f"{finding}, so object stores will refuse its requests: set it by NTP")
    if abs(skew_s) > WARN_SKEW_S:
        raise CheckWarning(f"{finding}: set it by NTP")
    return f"{abs(skew_s):.1f} s from the database's"


def check_models(settings: Settings) -> str:
    """Check that every model loads from weights with the locked hashes and passes the self-test."""
    suite = load_suite(settings.suite)
    run_self_test(suite)
    return ", ".join(f"{model} {revision}" for model, revision in suite.revisions.items())

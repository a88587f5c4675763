"""What the machine's cards say of themselves."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card, as NVML names it."""

    name: str
    memory_gib: float


def read_gpus() -> tuple[Gpu, ...]:
    """Every card that this process can see; none where there is no NVML or no driver."""
    try:
        import pynvml  # noqa: PLC0415 - comes with the `gpu` extra only
    except ImportError:
        return ()
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(pynvml.nvmlDeviceGetName(handle), round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 1))
            for handle in handles
        )
    finally:
        pynvml.nvmlShutdown()

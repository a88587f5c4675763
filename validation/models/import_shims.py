"""Import torchaudio on a torch without CUDA, and import speechbrain without breaking other libraries."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch


def allow_torchaudio() -> None:
    """Make ``import torchaudio`` succeed on a torch without CUDA. Do nothing on a torch with CUDA.

    For Linux, the package index has only the CUDA build of torchaudio. The import of torchaudio fails if its compiled
    extension cannot be loaded. speechbrain and transformers import torchaudio, but they call none of its compiled
    functions here. So the module that loads the extension is replaced by a module that reports no extension.
    """
    if torch.version.cuda is None and "torchaudio" not in sys.modules:
        sys.modules["torchaudio._extension"] = _absent_extension()


@contextmanager
def importing_speechbrain() -> Iterator[None]:
    """Import speechbrain inside this context, then remove its lazy modules from ``sys.modules``.

    A lazy module imports itself when an attribute is read, and fails if its own requirements are not installed.
    torch, inspect and hypothesis iterate over ``sys.modules`` and read attributes of every module. speechbrain finds
    its lazy modules as attributes of its packages, so it does not need them in ``sys.modules``.
    """
    allow_torchaudio()
    yield
    from speechbrain.utils.importutils import LazyModule  # noqa: PLC0415 - torchaudio had to be allowed first

    for name, module in list(sys.modules.items()):
        if isinstance(module, LazyModule):
            del sys.modules[name]


def _absent_extension() -> ModuleType:
    """Make the module that replaces the compiled extension and reports that there is none."""
    module = ModuleType("torchaudio._extension", "Replaces the extension of a CUDA build on a CPU torch.")
    vars(module).update(
        _check_cuda_version=lambda: None,
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=_refuse,
    )
    return module


def _refuse(function: Any) -> Any:
    """Return a function that raises RuntimeError, in place of ``function``, which needs the extension."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(f"torchaudio.{function.__name__} is compiled for CUDA, and this torch has none")

    return refuse

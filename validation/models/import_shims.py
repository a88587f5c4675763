"""Importing libraries that are hard on those who stand beside them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch


def allow_torchaudio() -> None:
    """Let ``import torchaudio`` succeed on a torch without CUDA. Does nothing on a torch with it.

    The package index has torchaudio for Linux in its CUDA build alone, and that build refuses to be imported where
    its compiled extension cannot be loaded. speechbrain and transformers import torchaudio and call nothing compiled
    of it on our way, so the module that loads the extension is taken by one that says that there is none.
    """
    if torch.version.cuda is None and "torchaudio" not in sys.modules:
        sys.modules["torchaudio._extension"] = _absent_extension()


@contextmanager
def importing_speechbrain() -> Iterator[None]:
    """Import speechbrain within, and leave no trap behind.

    It enters modules that import themselves when they are looked at, and fail where their own requirements are not
    installed. Whoever walks over ``sys.modules`` looks at them: torch, inspect, hypothesis. speechbrain itself finds
    them as attributes of its packages, so they need not stand there.
    """
    allow_torchaudio()
    yield
    from speechbrain.utils.importutils import LazyModule  # noqa: PLC0415 - torchaudio had to be allowed first

    for name, module in list(sys.modules.items()):
        if isinstance(module, LazyModule):
            del sys.modules[name]


def _absent_extension() -> ModuleType:
    module = ModuleType("torchaudio._extension", "Stands in for the extension of a CUDA build on a CPU torch.")
    vars(module).update(
        _check_cuda_version=lambda: None,
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=_refuse,
    )
    return module


def _refuse(function: Any) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(f"torchaudio.{function.__name__} is compiled for CUDA, and this torch has none")

    return refuse

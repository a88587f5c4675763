"""Compile the layers of the large networks, which fuses their norms, activations and masks into fewer kernels.

Numbers of items and frames are symbols in the compiled program, so all layers of a network share one program for
batches of every shape. Only a batch of one item needs a second program, because the compiler treats the number one as a
constant. So the two large networks of a suite need four programs. ``MAX_PROGRAMS`` bounds the programs per kind of
layer; beyond it a layer runs uncompiled. Recorded sequences of kernels (CUDA graphs) would need fixed shapes, and would
save only the launches of kernels.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

from validation.errors import BadInput
from validation.hardware.device import Device
from validation.models.weights import default_weights_cache

log = logging.getLogger(__name__)

MAX_PROGRAMS = 4
"""The most compiled programs per kind of layer. Two suffice: see the module."""


def chosen_compile(configured: Literal["auto", "on", "off"], device: Device) -> bool:
    """Return whether layers are compiled; ``auto`` compiles them on a GPU if the compilers are installed.

    Raises:
        BadInput: ``configured`` is ``on``, and a compiler is not installed.
    """
    missing = _find_missing(device)
    if configured == "on" and missing:
        raise BadInput(
            f"VFLEET_COMPILE_LAYERS is on, but {missing} is not installed: install it, or set VFLEET_COMPILE_LAYERS=off"
        )
    if configured == "auto":
        if device == "cuda" and missing:
            log.warning("layers are not compiled, because %s is not installed", missing)
        return device == "cuda" and not missing
    return configured == "on"


def compile_from_settings(layers: Iterable[nn.Module], device: Device) -> None:
    """Compile layers as ``compile_layers`` does, if VFLEET_COMPILE_LAYERS says so: see ``chosen_compile``.

    Raises:
        BadInput: VFLEET_COMPILE_LAYERS is ``on``, and a compiler is not installed.
    """
    from validation.settings import load_settings  # noqa: PLC0415 - the GPU benchmark runs without pydantic

    if chosen_compile(load_settings().compile_layers, device):
        compile_layers(layers)


def compile_layers(layers: Iterable[nn.Module], backend: str | Callable[..., Any] = "inductor") -> None:
    """Make layers compile themselves at their first call. Compiled code is kept on disk for later processes.

    If the compiler fails on a layer, the layer runs uncompiled.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(default_weights_cache().with_name("compiled")))
    config = torch._dynamo.config  # noqa: SLF001 - the documented place of these settings
    config.recompile_limit, config.suppress_errors = MAX_PROGRAMS, True
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)


def _find_missing(device: Device) -> str | None:
    """Return what compilation on a device needs and this machine lacks, for messages; None if nothing is missing."""
    if not any(map(shutil.which, ("cc", "gcc", "clang") if device == "cuda" else ("c++", "g++", "clang++"))):
        return "a C compiler"
    return "triton" if device == "cuda" and find_spec("triton") is None else None

"""The one seam between layers and array libraries: which module computes on an array, and where an array lives.

A NumPy array lives on "cpu", a CuPy array on "cuda". CuPy is imported when an array first goes there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # a NumPy or a CuPy array, which share no base class

DEVICES = ("cpu", "cuda")


def device_of(x: Array) -> str:
    """ "cpu" or "cuda". Raises `TypeError` for anything but a NumPy or CuPy array."""
    if isinstance(x, np.ndarray):
        return "cpu"
    if type(x).__module__.partition(".")[0] == "cupy":
        return "cuda"
    raise TypeError(f"expected a NumPy or CuPy array, got a {type(x).__name__}")


def namespace(x: Array) -> Any:
    """The module whose functions take x: numpy or cupy. Raises `TypeError` as `device_of` does."""
    return np if device_of(x) == "cpu" else sys.modules["cupy"]


def check_device(device: str) -> None:
    """Raises `ValueError` for a device that is neither "cpu" nor "cuda", `RuntimeError` where "cuda" cannot be had."""
    if device not in DEVICES:
        raise ValueError(f"device must be one of {DEVICES}, got {device!r}")
    if device == "cuda" and not _cupy().cuda.is_available():
        raise RuntimeError('device "cuda": CuPy is installed but finds no NVIDIA GPU with a working driver')


def move(x: Array, device: str) -> Array:
    """x on `device`: x itself where it lives there already, else a copy. Raises what `check_device` raises."""
    if device_of(x) == device:
        return x
    check_device(device)
    return _cupy().asarray(x) if device == "cuda" else _cupy().asnumpy(x)


def fill(target: Array, values: np.ndarray[Any, Any]) -> None:
    """Copy `values`, of the shape and dtype of `target`, into it, without memory of its own on a GPU."""
    if device_of(target) == "cpu":
        target[...] = values
    else:
        target.set(values)


def free_memory() -> int:
    """Bytes on the GPU that nobody has asked for yet."""
    free, _ = _cupy().cuda.runtime.memGetInfo()
    return int(free)


def _cupy() -> Any:
    try:
        return import_module("cupy")
    except ImportError as error:
        raise RuntimeError(
            'device "cuda" needs CuPy and numba-cuda: pip install "numba-cnn[cu13]" for CUDA 13, '
            'or "numba-cnn[cu12]" for CUDA 12'
        ) from error

"""Which backend computes a call, and what its arrays must be.

Every public function of `cnn.kernels` does the same four things: check the arrays here, check the shapes with a
geometry, allocate the results, and hand all of it to the module of the same name in the chosen backend. So nothing
is written before everything is checked, and no backend checks anything again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnn.kernels.errors import BackendError, DTypeError, ShapeError

BACKENDS = ("reference", "cpu", "cuda")

_FLOAT32 = np.dtype(np.float32)
_FLOATS = frozenset({_FLOAT32, np.dtype(np.float64)})

_forced: ContextVar[str | None] = ContextVar("cnn.kernels.backend", default=None)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Force one backend ("reference", "cpu" or "cuda") for every call inside the `with` block, in this thread.

    Raises `BackendError` for an unknown name; a call inside raises it for arrays the backend does not take.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise BackendError(f"backend must be one of {BACKENDS}, got {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def backend_module(operation: str, file: str, x: Any, dimensions: int = 2, dtype: DTypeLike = _FLOAT32) -> ModuleType:
    """The module `file` of the backend that serves `operation` on arrays like `x`.

    The CPU backend is compiled for `dtype` in one and two dimensions: the reference serves the rest.
    """
    name = _name(x)
    if name == "cuda":
        _check_cuda(operation, x, dimensions, np.dtype(dtype))
        return _module(name, file)
    if not isinstance(x, np.ndarray):
        raise BackendError(f"{operation}: backend {name!r} takes NumPy arrays, got {_kind(x)}")
    if name == "cpu" and (x.dtype != dtype or dimensions > 2):
        name = "reference"
    return _module(name, file)


@cache
def _module(name: str, file: str) -> ModuleType:
    return import_module(f"cnn.kernels.{name}.{file}")


def readable(x: Any) -> bool:
    """Whether a check may look at the values in x. On a GPU it would have to wait for all that came before.

    Kernels of the cuda backend therefore never take what an array holds for an address unseen, in the simulator either.
    """
    return _name(x) != "cuda"


def _name(x: Any) -> str:
    return _forced.get() or ("cpu" if isinstance(x, np.ndarray) else "cuda")


def _check_cuda(operation: str, x: Any, dimensions: int, dtype: np.dtype[Any]) -> None:
    if isinstance(x, np.ndarray) and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        raise BackendError(
            f"{operation}: backend 'cuda' takes CuPy arrays, got {_kind(x)} (Numba's simulator takes those: set "
            "NUMBA_ENABLE_CUDASIM=1 before Python starts)"
        )
    if x.dtype != dtype:
        raise DTypeError(f"{operation}: the cuda backend computes in {dtype}, got {x.dtype}")
    if dimensions > 2:
        raise ShapeError(f"{operation}: the cuda backend serves one and two dimensions, got {dimensions}")


def check_arrays(operation: str, *, optional: Sequence[str] = (), **arrays: Any) -> None:
    """All of `arrays` are of one kind and one dtype, float32 or float64; those named `optional` may be None."""
    for name, array in arrays.items():  # by far the most, and asked of every layer for every image
        if type(array) is np.ndarray:
            if array.dtype is not _FLOAT32:
                break
        elif array is not None or name not in optional:
            break
    else:
        return
    first_name, first = "", None
    for name, array in arrays.items():
        if array is None and name in optional:
            continue
        if not is_array(array):
            raise DTypeError(f"{operation}: {name} must be a NumPy or CuPy array, got {_kind(array)}")
        if array.dtype not in _FLOATS:
            raise DTypeError(f"{operation}: {name} must be float32 or float64, got {array.dtype}")
        if first is None:
            first_name, first = name, array
            continue
        if array.dtype != first.dtype:
            raise DTypeError(
                f"{operation}: dtypes must not be mixed, got {first_name} {first.dtype} and {name} {array.dtype}"
            )
        if isinstance(array, np.ndarray) != isinstance(first, np.ndarray):
            raise BackendError(
                f"{operation}: all arrays must live in one place, got {first_name} {_kind(first)} "
                f"and {name} {_kind(array)}"
            )


def check_labels(operation: str, name: str, array: Any, like: Any) -> None:
    """`array` is an integer array of the same kind as `like`."""
    if not is_array(array) or isinstance(array, np.ndarray) != isinstance(like, np.ndarray):
        raise DTypeError(f"{operation}: {name} must be an integer array beside {_kind(like)}, got {_kind(array)}")
    if array.dtype.kind not in "iu" or not array.dtype.isnative:
        raise DTypeError(f"{operation}: {name} must be integers, got {array.dtype}")


def check_shape(operation: str, name: str, array: Any, shape: Sequence[int]) -> None:
    if array.shape != tuple(shape):
        raise ShapeError(f"{operation}: {name} must have shape {tuple(shape)}, got {array.shape}")


def check_written(operation: str, name: str, array: Any, *inputs: Any) -> None:
    """`array`, which the operation is about to write, can be written and shares no memory with its inputs."""
    if isinstance(array, np.ndarray):
        if not array.flags.writeable:
            raise ShapeError(f"{operation}: {name} must be writeable")
        for x in inputs:
            if x is not None and np.shares_memory(array, x):
                raise ShapeError(f"{operation}: {name} must not share memory with an input")


def is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) or type(x).__module__.partition(".")[0] == "cupy"


def _kind(x: Any) -> str:
    if is_array(x):
        return f"a {'NumPy' if isinstance(x, np.ndarray) else 'CuPy'} array"
    return f"a {type(x).__name__}"

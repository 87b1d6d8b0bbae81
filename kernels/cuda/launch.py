"""The one door through which kernels run: on a GPU, through CuPy, on its current stream; or in Numba's simulator.

The launch itself knows addresses only, so every argument is checked here against the kernel's parameters: a wrong
array would be a wild pointer.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda.compiler import SIMULATED, Kernel, compile_kernel, cuda
from cnn.kernels.errors import BackendError, DTypeError, ShapeError

# Kernels index with 32 bits, and may count up to a grid's threads past the end.
MOST_ELEMENTS = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel with its grid: what a plan, a pure function of the geometry, comes to. Call it with the arguments."""

    kernel: Kernel
    grid: tuple[int, ...]
    block: tuple[int, ...]

    def __call__(self, *arguments: Any) -> None:
        launch(self.kernel, self.grid, self.block, *arguments)


Call = tuple[Launch, tuple[Any, ...]]  # with its arguments


def run(calls: Iterable[Call]) -> None:
    for launch_, arguments in calls:
        launch_(*arguments)


def launch(kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
    """Run `kernel` over grid x block threads with arrays (C-contiguous) for pointers and numbers for the rest.

    On a GPU this returns before the kernel has run. Raises `DTypeError` and `BackendError` for arguments that are not
    what the kernel's parameters say, `ShapeError` for an array too large for 32-bit indices; nothing runs then.
    """
    values = _check(kernel, arguments)
    if 0 in grid:
        return
    if SIMULATED:
        with warnings.catch_warnings():
            # A GPU warns of nothing. Unsigned indices wrap around below zero on purpose: one comparison then tests both
            # ends of a range; and 0 / 0 is NaN.
            warnings.filterwarnings("ignore", ".*encountered in scalar", RuntimeWarning)
            _simulated(kernel)[grid, block, 0, kernel.shared_bytes](*values)
    else:
        _loaded(kernel, _device())(grid, block, values, shared_mem=kernel.shared_bytes)


def aligned(array: Any) -> Any:
    """`array` itself where it is C-contiguous and begins at a multiple of 16 bytes, else a copy, which does."""
    if array.flags.c_contiguous and (SIMULATED or array.data.ptr % 16 == 0):
        return array
    return _copied(array)


@contextmanager
def aligned_result(out: Any) -> Iterator[Any]:
    """`out`, C-contiguous, where it begins at a multiple of 16 bytes, else an array that does and is copied to it."""
    if SIMULATED or out.data.ptr % 16 == 0:
        yield out
    else:
        result = buffers.empty(out.shape, out.dtype, like=out)
        yield result
        out[...] = result


def contiguous(array: Any) -> Any:
    """`array` itself where it is C-contiguous and begins at a multiple of its item size, else a copy, which does."""
    if array.flags.c_contiguous and (SIMULATED or array.data.ptr % array.dtype.itemsize == 0):
        return array
    return _copied(array)


def integers(array: Any) -> Any:
    """Labels or indices as kernels are made for: contiguous, int32 or int64.

    What the conversion makes negative was out of every range before.
    """
    return contiguous(array if array.dtype in (np.int32, np.int64) else array.astype(np.int64))


def _copied(array: Any) -> Any:
    copy = buffers.empty(array.shape, array.dtype, like=array)
    copy[...] = array
    return copy


def compute_capability() -> int:
    """Of the current GPU, as 90 for 9.0. Raises `BackendError` without CuPy or a GPU."""
    return _compute_capability(_device())


def multiprocessors() -> int:
    """Of the current GPU; 1 in the simulator, whose grids are to be small."""
    return 1 if SIMULATED else _multiprocessors(_device())


def _check(kernel: Kernel, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != len(kernel.parameters):
        raise BackendError(f"{kernel.name}: takes {len(kernel.parameters)} arguments, got {len(arguments)}")
    return tuple(
        _address(kernel.name, number, dtype, argument) if is_address else dtype.type(argument)
        for number, ((is_address, dtype), argument) in enumerate(zip(kernel.takes, arguments, strict=True))
    )


def _address(name: str, number: int, dtype: np.dtype[Any], array: Any) -> Any:
    kind: Any = np.ndarray if SIMULATED else _cupy().ndarray
    if not isinstance(array, kind):
        raise BackendError(f"{name}: argument {number} must be a {kind.__module__} array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise DTypeError(f"{name}: argument {number} must be {dtype}, got {array.dtype}")
    if not array.flags.c_contiguous:
        raise BackendError(f"{name}: argument {number} must be C-contiguous, got strides {array.strides}")
    if not SIMULATED and array.data.ptr % array.dtype.itemsize:
        raise BackendError(f"{name}: argument {number} must begin at a multiple of its {array.dtype.itemsize} bytes")
    if array.size > MOST_ELEMENTS:
        raise ShapeError(f"{name}: argument {number} has {array.size} elements, a kernel takes up to {MOST_ELEMENTS}")
    # The simulator would work on a copy of each array it is given, also where two arguments share their memory.
    return cuda.cudadrv.devicearray.FakeCUDAArray(array.reshape(-1)) if SIMULATED else array


@cache
def _simulated(kernel: Kernel) -> Any:
    return cuda.jit(kernel.py_func)


@cache
def _loaded(kernel: Kernel, device: int) -> Any:
    """The kernel's function on a device, compiled for it and loaded at its first launch."""
    binary = compile_kernel(kernel, _compute_capability(device))
    function = _cupy().RawModule(path=str(binary.path)).get_function(binary.entry)
    if kernel.shared_bytes > 48 * 1024:  # more has to be asked for
        function.max_dynamic_shared_size_bytes = kernel.shared_bytes
    return function


def _device() -> int:
    cupy = _cupy()
    try:
        return int(cupy.cuda.runtime.getDevice())
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"the cuda backend needs an NVIDIA GPU and its driver: {error}") from error


@cache
def _compute_capability(device: int) -> int:
    return int(_cupy().cuda.Device(device).compute_capability)


@cache
def _multiprocessors(device: int) -> int:
    return int(_cupy().cuda.Device(device).attributes["MultiProcessorCount"])


@cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise BackendError(
            "the cuda backend needs CuPy: pip install 'numba-cnn[cu13]' (or [cu12] for CUDA 12)"
        ) from error
    return cupy

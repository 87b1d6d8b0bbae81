"""One call of a public function on the device and in the reference, compared.

The device is a GPU (or the virtual one), and in the processes that run Numba's simulator, its stand-in NumPy. Arrays
are named in the arguments; those that a call updates in place are compared, too.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np
from tolerances import assert_close

from cnn import kernels

Array = np.ndarray[Any, Any]
Arguments = dict[str, Any]

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def to_device(value: Any) -> Any:
    """A copy of an array, contiguous and on the device; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return value.copy() if SIMULATED else import_module("cupy").asarray(value)


def to_host(array: Any) -> Array:
    return np.asarray(array if SIMULATED else import_module("cupy").asnumpy(array))


def on_device(name: str, given: Arguments, updated: tuple[str, ...] = ()) -> list[Array]:
    """What the call returns and then the arrays that it updates, on the host. Arrays of NumPy are moved first."""
    given = {key: to_device(value) for key, value in given.items()}
    with kernels.backend("cuda"):
        result = getattr(kernels, name)(**given)
    return [to_host(array) for array in (*_returned(result), *(given[key] for key in updated))]


def in_reference(name: str, given: Arguments, updated: tuple[str, ...] = ()) -> list[Array]:
    """The same in the reference and, where numbers are float32, in float64."""
    given = {key: _double(value) for key, value in given.items()}
    with kernels.backend("reference"):
        result = getattr(kernels, name)(**given)
    return [np.asarray(array) for array in (*_returned(result), *(given[key] for key in updated))]


def check_parity(name: str, given: Arguments, *updated: str, length: int = 0) -> list[Array]:
    """Compare all results within the tolerance for sums of `length` terms, exactly for 0; those of the device."""
    actual, expected = on_device(name, given, updated), in_reference(name, given, updated)
    assert len(actual) == len(expected)
    for ours, wanted in zip(actual, expected, strict=True):
        if length:
            assert_close(ours, wanted, length=length)
        else:
            np.testing.assert_array_equal(ours, wanted)
    return actual


def uniform(*shape: int, seed: int = 0) -> Array:
    """float32 from [-1, 1], as the table of tolerances asks for."""
    return np.random.default_rng((seed, *shape)).uniform(-1, 1, shape).astype(np.float32)


def integers(*shape: int, seed: int = 0) -> Array:
    """float32 integers in -3..3: sums are exact in any order, and a maximum often stands twice."""
    return np.random.default_rng((seed, *shape)).integers(-3, 4, shape).astype(np.float32)


def _double(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(np.float64) if value.dtype == np.float32 else value.copy()


def _returned(result: Any) -> tuple[Any, ...]:
    if result is None:
        return ()
    results = result if isinstance(result, tuple) else (result,)
    return tuple(array for array in results if array is not None)

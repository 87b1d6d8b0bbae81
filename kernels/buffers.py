"""Where every array that `cnn.kernels` returns or works in comes from.

One door, so that a test can make fresh memory NaN and see an element that no kernel wrote, and so that work which is
done again and again (see `Arena`) gets the same memory each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import numpy as np

from cnn.kernels.dispatch import check_shape, check_written

# Bytes of a cache line: a vector that lies in two takes twice as long to load. Finding one costs some microseconds,
# more than an array of fewer bytes than these gains.
LINE = 64
LEAST_ALIGNED = 2**14

_arena: ContextVar[Arena | _Zeros | None] = ContextVar("cnn.kernels.arena", default=None)


def empty(shape: tuple[int, ...] | int, dtype: Any, like: Any = None) -> Any:
    """An uninitialised C-contiguous array: of CuPy where `like` is one of CuPy's, else of NumPy.

    Inside `Arena.reused` it is one of the arena's, in this thread. Inside `zeroed` it is zeros.
    """
    arena = _arena.get()
    return allocate(shape, dtype, like) if arena is None else arena.next(shape, dtype, like)


def allocate(shape: tuple[int, ...] | int, dtype: Any, like: Any = None) -> Any:
    """As `empty`, but always an array of its own: for what outlives the call that asks for it.

    It begins with a cache line, unless it is small.
    """
    if like is not None and not isinstance(like, np.ndarray):
        return import_module("cupy").empty(shape, dtype)
    array = np.empty(shape, dtype)
    if array.nbytes < LEAST_ALIGNED:
        return array
    memory = np.empty(array.size + LINE // array.itemsize, dtype)
    # Through a memoryview, so that views of the result refer to it and not to `memory`: `Arena` counts who does.
    return np.ndarray(array.shape, array.dtype, memory.data, -memory.ctypes.data % LINE)


@contextmanager
def zeroed() -> Iterator[None]:
    """For work whose results nobody computes: numbers that are looked at, such as positions, are still some that exist.

    Arrays are NumPy's, of pages that stay unused until they are written to.
    """
    token = _arena.set(_Zeros())
    try:
        yield
    finally:
        _arena.reset(token)


class _Zeros:
    def next(self, shape: tuple[int, ...] | int, dtype: Any, _like: Any) -> Any:
        return np.zeros(shape, dtype)


class Arena:
    """Memory for work that is done again and again, and asks for the same arrays in the same order each time.

    Inside `with arena.reused():` the n-th call of `empty` gives what the n-th one gave the time before, so that nothing
    is allocated from the second time on. Whoever keeps such an array finds it overwritten the next time. Where the work
    asks for another shape, dtype or place than before, it gets new arrays from there on.

    A NumPy array that nobody refers to any more, itself or by a view, may be given out again in the same round.
    """

    def __init__(self) -> None:
        self._arrays: list[Any] = []  # what the n-th call gives; an array stands there once for each time
        self._times: dict[int, int] = {}  # how often, by its id
        self._again: list[bool] = []  # whether the n-th call gives what an earlier one gave
        self._given = 0
        self._busy = False

    @contextmanager
    def reused(self) -> Iterator[None]:
        """Raises `RuntimeError` inside another `with` of this arena: both would be given the same arrays."""
        if self._busy:
            raise RuntimeError("Arena: already in use, in this thread or another")
        self._busy, self._given = True, 0
        token = _arena.set(self)
        try:
            yield
        finally:
            _arena.reset(token)
            self._busy = False

    def next(self, shape: tuple[int, ...] | int, dtype: Any, like: Any) -> Any:
        """What `empty` gives inside `reused`."""
        wanted = tuple(shape) if isinstance(shape, tuple) else (shape,)
        on_host = like is None or isinstance(like, np.ndarray)
        number, self._given = self._given, self._given + 1
        if number < len(self._arrays):
            array = self._arrays[number]
            fits = array.shape == wanted and array.dtype == dtype and isinstance(array, np.ndarray) == on_host
            # The list, the variable and the call itself refer to it.
            if fits and (not self._again[number] or sys.getrefcount(array) == self._times[id(array)] + 2):
                return array
            self._forget(number)
        array = self._released(wanted, np.dtype(dtype)) if on_host else None
        self._again.append(array is not None)
        if array is None:
            array = allocate(wanted, dtype, like)
        self._arrays.append(array)
        self._times[id(array)] = self._times.get(id(array), 0) + 1
        return array

    def _released(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array of this round that nobody has any more, or None."""
        for array in self._arrays:
            if (
                array.shape == shape
                and array.dtype == dtype
                and isinstance(array, np.ndarray)
                and sys.getrefcount(array) == self._times[id(array)] + 2
            ):
                return array
        return None

    def _forget(self, number: int) -> None:
        """What the calls from `number` on gave the time before."""
        del self._arrays[number:], self._again[number:]
        self._times = {}
        for array in self._arrays:
            self._times[id(array)] = self._times.get(id(array), 0) + 1


def filled(
    operation: str,
    out: Any,
    shape: tuple[int, ...],
    dtype: Any,
    inputs: tuple[Any, ...],
    fill: Callable[[Any], None],
) -> Any:
    """The result of `fill(array)` in `out`, or in a fresh array where `out` is None.

    `out` may be strided: it is then filled through a contiguous array. Checked before anything is written.
    """
    if out is None:
        result = empty(shape, dtype, like=inputs[0])
        fill(result)
        return result
    check_shape(operation, "out", out, shape)
    check_written(operation, "out", out, *inputs)
    if out.flags.c_contiguous:
        fill(out)
    else:
        result = empty(shape, dtype, like=inputs[0])
        fill(result)
        out[...] = result
    return out

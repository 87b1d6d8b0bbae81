"""Memory that is used again: the same arrays in the same order, and never one that somebody else has."""

from __future__ import annotations

import numpy as np
import pytest

from cnn import kernels
from cnn.kernels import buffers
from cnn.kernels.buffers import Arena
from cnn.kernels.cpu import threads


def test_gives_the_same_arrays_again_in_order() -> None:
    arena = Arena()
    rounds = []
    for _ in range(3):
        with arena.reused():
            rounds.append([buffers.empty((2, 3), np.float32), buffers.empty(4, np.int32), buffers.empty((), "f8")])
    assert [(a.shape, a.dtype.name) for a in rounds[0]] == [((2, 3), "float32"), ((4,), "int32"), ((), "float64")]
    for arrays in rounds[1:]:
        assert all(array is first for array, first in zip(arrays, rounds[0], strict=True))


def test_no_array_is_given_twice_in_a_round() -> None:
    arena = Arena()
    for _ in range(2):
        with arena.reused():
            first, second = buffers.empty(8, np.float32), buffers.empty(8, np.float32)
        assert not np.shares_memory(first, second)


@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
@pytest.mark.parametrize("shape", [(2**14,), (3, 5, 7, 11, 17), 2**15 + 1])
def test_what_is_large_begins_with_a_cache_line(shape: tuple[int, ...] | int, dtype: str) -> None:
    arrays = [buffers.allocate(shape, np.dtype(dtype)) for _ in range(3)]
    for array in arrays:
        assert (array.shape, array.dtype) == (shape if isinstance(shape, tuple) else (shape,), dtype)
        assert array.flags.c_contiguous
        assert array.nbytes < buffers.LEAST_ALIGNED or array.ctypes.data % 64 == 0
        array.fill(1)  # all of it is its own
    assert not any(np.shares_memory(a, b) for n, a in enumerate(arrays) for b in arrays[:n])


@pytest.mark.parametrize("size", [3, 5000])
def test_what_nobody_has_any_more_is_given_again(size: int) -> None:
    arena = Arena()
    rounds = []
    for _ in range(3):
        with arena.reused():
            first = buffers.empty((2, size), np.float32)
            rows = buffers.empty((2, size), np.float32)[1:]  # a view keeps its array
            address = first.ctypes.data
            other = buffers.empty((2, size), np.float32)
            del first
            smaller, again = buffers.empty((2, 2), np.float32), buffers.empty((2, size), np.float32)
            last = buffers.empty((2, size), np.float32)
        assert again.ctypes.data == address
        assert not any(np.shares_memory(array, again) for array in (rows, other, smaller, last))
        rounds.append([array.ctypes.data for array in (rows, other, smaller, again, last)])
        del rows, other, smaller, again, last
    assert rounds[0] == rounds[1] == rounds[2]


def test_what_is_kept_longer_than_the_time_before_is_not_given_again() -> None:
    arena = Arena()
    kept = []
    for number in range(3):
        with arena.reused():
            first = buffers.empty(8, np.float32)
            if number == 1:
                kept.append(first)
            del first
            second = buffers.empty(8, np.float32)
            if number == 1:
                assert not np.shares_memory(kept[0], second)
            del second


@pytest.mark.parametrize("other", [((3, 2), np.float32), ((2, 3), np.float64), ((6,), np.float32)])
def test_another_shape_or_dtype_is_a_new_start_from_there(other: tuple[tuple[int, ...], type]) -> None:
    arena = Arena()
    with arena.reused():
        first, second, third = (buffers.empty((2, 3), np.float32) for _ in range(3))
    for _ in range(2):
        with arena.reused():
            assert buffers.empty((2, 3), np.float32) is first
            changed = buffers.empty(*other)
            assert (changed.shape, changed.dtype) == other
            after = buffers.empty((2, 3), np.float32)
        for array in (changed, after):
            assert not any(np.shares_memory(array, old) for old in (first, second, third))


def test_outside_and_in_another_arena_every_array_is_its_own() -> None:
    one, other = Arena(), Arena()
    with one.reused():
        first = buffers.empty(8, np.float32)
        with other.reused():
            inner = buffers.empty(8, np.float32)
        second = buffers.empty(8, np.float32)
    arrays = [first, inner, second, buffers.empty(8, np.float32)]
    with one.reused():
        assert buffers.empty(8, np.float32) is first
        arrays.append(buffers.allocate(8, np.float32))
        assert buffers.empty(8, np.float32) is second
    assert not any(np.shares_memory(a, b) for n, a in enumerate(arrays) for b in arrays[:n])


def test_one_arena_serves_one_at_a_time() -> None:
    arena = Arena()
    with arena.reused():
        with pytest.raises(RuntimeError, match="already in use"), arena.reused():
            pass
        buffers.empty(8, np.float32)
    with pytest.raises(ZeroDivisionError), arena.reused():
        raise ZeroDivisionError
    with arena.reused():
        buffers.empty(8, np.float32)


def test_working_memory_of_a_thread_is_no_part_of_an_arena() -> None:
    arena = Arena()
    with arena.reused():
        kept = threads.scratch("a test's own", 16)
        given = buffers.empty(16, np.float32)
    with arena.reused():
        assert buffers.empty(16, np.float32) is given
    assert not np.shares_memory(kept, given)
    assert np.shares_memory(kept, threads.scratch("a test's own", 16))


def test_results_in_used_memory_are_those_in_fresh_memory() -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((3, 2, 6, 6), (4, 2, 3, 3)))
    expected = kernels.conv_forward(x, w, padding=1)
    arena = Arena()
    for _ in range(3):
        with arena.reused():
            y = kernels.conv_forward(x, w, padding=1)
            np.testing.assert_array_equal(y, expected)
            y.fill(np.nan)  # what the next round finds there


def test_memory_of_work_that_computes_nothing() -> None:
    arena = Arena()
    with arena.reused():
        with buffers.zeroed():
            arrays = [buffers.empty((2, 3), np.float32), buffers.empty(2**15, np.int32)]
        assert not any(array.any() for array in arrays)
        assert [(array.shape, array.dtype.name) for array in arrays] == [((2, 3), "float32"), ((2**15,), "int32")]
        again = buffers.empty((2, 3), np.float32)
    with arena.reused():
        assert buffers.empty((2, 3), np.float32) is again

"""Arrays in any memory layout, outputs in any memory layout, inputs left alone, and nothing left unwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from calls import OPERATIONS, PLANE, WITH_OUT, arguments, inputs, results, returned
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels
from cnn.kernels import buffers

Array = np.ndarray[Any, Any]

# The longest sum in the calls: batch norm's, over 17 images of 7 x 6 pixels.
LENGTH = 714


def fortran(a: Array) -> Array:
    return np.asfortranarray(a)


def reversed_(a: Array) -> Array:
    backwards = (slice(None, None, -1),) * a.ndim
    return a[backwards].copy()[backwards]


def every_other(a: Array) -> Array:
    """`a` as every second element, in every dimension, of an array that is NaN, or huge, in between."""
    wide = buffers.empty(tuple(2 * size for size in a.shape), a.dtype)
    view = wide[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def channels_last(a: Array) -> Array:
    """`a` with its second dimension innermost in memory, as image libraries keep it."""
    return np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 1 else a.copy()


def unaligned(a: Array) -> Array:
    """`a` at an address that is no multiple of its item size."""
    memory = np.empty(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


def offset(a: Array) -> Array:
    """Contiguous and aligned for its item size, and for no vector."""
    memory = np.empty(a.size + 1, a.dtype)
    view = memory[1:].reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = [fortran, reversed_, every_other, channels_last, unaligned, read_only, offset]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_inputs_in_any_layout(name: str, layout: Callable[[Array], Array]) -> None:
    expected = results(name, arguments(name))
    given = arguments(name)
    for key, array in inputs(name, given).items():
        given[key] = layout(array)
        assert_array_equal(given[key], array)
    for actual, wanted in zip(results(name, given), expected, strict=True):
        assert_close(actual, wanted, length=LENGTH)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", OPERATIONS)
def test_inputs_broadcast_with_strides_of_zero(name: str) -> None:
    given = arguments(name)
    for key, array in inputs(name, given).items():
        given[key] = np.broadcast_to(array[(slice(1),) * array.ndim], array.shape)
    spread = {key: np.ascontiguousarray(array) for key, array in inputs(name, given).items()}
    expected = results(name, {**arguments(name), **spread})
    for actual, wanted in zip(results(name, given), expected, strict=True):
        assert_close(actual, wanted, length=LENGTH)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layout", [np.copy, every_other])
@pytest.mark.parametrize("name", OPERATIONS)
def test_inputs_are_never_written(name: str, layout: Callable[[Array], Array]) -> None:
    given = arguments(name)
    for key, array in inputs(name, given).items():
        given[key] = layout(array)

    def memory() -> dict[str, bytes]:
        arrays = inputs(name, given)
        return {key: (array if array.base is None else array.base).tobytes() for key, array in arrays.items()}

    before = memory()
    assert before
    getattr(kernels, name)(**given)
    assert memory() == before


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_results_have_the_dtype_and_no_unwritten_element(name: str, dtype: type) -> None:
    # Fresh memory is NaN, or huge, in these tests: an element that nothing wrote would show.
    for array in results(name, arguments(name, dtype)):
        if array.dtype.kind == "f":
            assert array.dtype == (np.float32 if name.startswith("gather") else dtype)  # which takes no floats
            assert np.isfinite(array).all()
        else:
            assert array.dtype == (np.int64 if name == "gather_next" else np.int32)
            assert (array >= 0).all()
            assert (array < PLANE).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_results_come_through_the_one_door(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What makes the test above mean something: no result is allocated where the poison does not reach.
    made = []
    poisoned = buffers.np.empty
    monkeypatch.setattr(buffers.np, "empty", lambda *of: made.append(poisoned(*of)) or made[-1])
    for array in returned(getattr(kernels, name)(**arguments(name))):
        assert any(np.shares_memory(array, buffer) for buffer in made)


def test_fresh_memory_is_poisoned() -> None:
    assert np.isnan(buffers.empty((2, 3), np.float32)).all()
    assert (buffers.empty(4, np.int32) == 2**31 - 1).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layout", [np.copy, *LAYOUTS])
@pytest.mark.parametrize("name", WITH_OUT)
def test_out_is_overwritten_and_never_read(name: str, layout: Callable[[Array], Array]) -> None:
    given = arguments(name)
    expected = getattr(kernels, name)(**given)
    out = layout(np.full_like(expected, np.nan))
    out.flags.writeable = True
    assert getattr(kernels, name)(**given, out=out) is out
    assert_close(out, expected, length=LENGTH)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", WITH_OUT)
def test_a_strided_out_is_written_only_where_it_is(name: str) -> None:
    given = arguments(name)
    shape = getattr(kernels, name)(**given).shape
    wide = np.full((*shape[:-1], shape[-1] * 2), 7, np.float32)
    getattr(kernels, name)(**given, out=wide[..., ::2])
    assert (wide[..., 1::2] == 7).all()
    assert (wide[..., ::2] != 7).all()


@pytest.mark.usefixtures("backend")
def test_running_statistics_may_be_views_of_one_array() -> None:
    given = arguments("batch_norm_forward")
    wide = np.stack([given["running_mean"], given["running_var"]], axis=1)
    kernels.batch_norm_forward(**given)
    kernels.batch_norm_forward(**{**given, "running_mean": wide[:, 0], "running_var": wide[:, 1]})
    assert_close(wide[:, 0], given["running_mean"], length=LENGTH)
    assert_close(wide[:, 1], given["running_var"], length=LENGTH)

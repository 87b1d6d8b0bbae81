"""The one door to the GPU: every argument is checked before a kernel sees its address."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cnn.kernels import BackendError, DTypeError, ShapeError

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import launch as launching
from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, aligned, contiguous, launch

pytestmark = pytest.mark.gpu


def scale(x: Any, y: Any, factor: Any, size: Any) -> None:
    i = uint32(uint32(cuda.blockIdx.x) * uint32(32) + uint32(cuda.threadIdx.x))
    if i < size:
        y[i] = x[i] * factor


KERNEL = Kernel("scale", scale, (pointer(float32), pointer(float32), float32, uint32), 32)


@pytest.fixture
def x(cupy: Any) -> Any:
    return cupy.arange(40, dtype=np.float32)


@pytest.fixture
def y(cupy: Any) -> Any:
    return cupy.full(40, 7, np.float32)


def test_a_launch(x: Any, y: Any) -> None:
    launch(KERNEL, (2,), (32,), x, y, 0.5, 40)
    assert_array_equal(y.get(), np.arange(40) / 2)
    Launch(KERNEL, (2,), (32,))(y, x, 4, 3)
    assert_array_equal(x.get(), [0, 2, 4, *range(3, 40)])


def test_an_array_of_any_shape_is_its_elements(x: Any, y: Any) -> None:
    launch(KERNEL, (2,), (32,), x.reshape(4, 10), y.reshape(2, 5, 4), 0.5, 40)
    assert_array_equal(y.get(), np.arange(40) / 2)


def test_a_grid_without_blocks_does_nothing(x: Any, y: Any) -> None:
    launch(KERNEL, (0,), (32,), x, y, 0.5, 0)
    assert (y.get() == 7).all()


def test_a_launch_follows_the_current_stream(cupy: Any, x: Any, y: Any) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        launch(KERNEL, (2,), (32,), x, y, 0.5, 40)
        launch(KERNEL, (2,), (32,), y, x, 0.5, 40)
        result = x.get(stream=stream)
    assert_array_equal(result, np.arange(40) / 4)


def test_a_launch_can_be_captured(cupy: Any, x: Any, y: Any) -> None:
    launch(KERNEL, (2,), (32,), x, y, 0.5, 40)  # loads the kernel
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        launch(KERNEL, (2,), (32,), y, x, 2, 40)
        launch(KERNEL, (2,), (32,), x, y, 2, 40)
        graph = stream.end_capture()
        for _ in range(2):
            graph.launch(stream)
        result = y.get(stream=stream)
    assert_array_equal(result, np.arange(40) / 2 * 16)


def refused(error: type[Exception], words: str, *arguments: Any) -> None:
    with pytest.raises(error, match=words) as caught:
        launch(KERNEL, (2,), (32,), *arguments)
    assert str(caught.value).startswith("scale: ")


def test_the_number_of_arguments(x: Any, y: Any) -> None:
    refused(BackendError, "takes 4 arguments, got 3", x, y, 0.5)
    refused(BackendError, "takes 4 arguments, got 5", x, y, 0.5, 40, 40)
    assert (y.get() == 7).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8])
def test_another_dtype(x: Any, y: Any, dtype: type) -> None:
    refused(DTypeError, f"argument 0 must be float32, got {np.dtype(dtype)}", x.astype(dtype), y, 0.5, 40)
    assert (y.get() == 7).all()


def test_what_is_no_array_of_cupy(x: Any, y: Any) -> None:
    refused(BackendError, "argument 0 must be a cupy array, got ndarray", x.get(), y, 0.5, 40)
    refused(BackendError, "argument 1 must be a cupy array, got int", x, y.data.ptr, 0.5, 40)
    refused(BackendError, "argument 1 must be a cupy array, got NoneType", x, None, 0.5, 40)


def test_strides(x: Any, y: Any) -> None:
    refused(BackendError, "argument 0 must be C-contiguous", x[::2], y, 0.5, 20)
    refused(BackendError, "argument 0 must be C-contiguous", x.reshape(4, 10).T, y, 0.5, 40)


def unaligned(cupy: Any, size: int) -> Any:
    """float32 elements 0, 1, ... from an address that is no multiple of 4 bytes on."""
    bytes_ = cupy.zeros(4 * size + 1, np.uint8)
    bytes_[1:] = cupy.asarray(np.arange(size, dtype=np.float32).view(np.uint8))
    return bytes_[1:].view(np.float32)


def test_an_address_inside_an_element(cupy: Any, y: Any) -> None:
    refused(BackendError, "argument 0 must begin at a multiple of its 4 bytes", unaligned(cupy, 40), y, 0.5, 40)


def test_more_elements_than_32_bits_count(monkeypatch: pytest.MonkeyPatch, x: Any, y: Any) -> None:
    monkeypatch.setattr(launching, "MOST_ELEMENTS", 39)
    refused(ShapeError, "argument 0 has 40 elements, a kernel takes up to 39", x, y, 0.5, 40)


@pytest.mark.parametrize("wrong", [-1, 2**32])
def test_a_number_that_its_parameter_cannot_hold(x: Any, y: Any, wrong: int) -> None:
    with pytest.raises(OverflowError):
        launch(KERNEL, (2,), (32,), x, y, 0.5, wrong)
    assert (y.get() == 7).all()


def test_aligned_and_contiguous_copy_only_what_they_must(cupy: Any, x: Any) -> None:
    assert aligned(x) is x
    assert contiguous(x) is x
    for view in (x[::2], x.reshape(4, 10).T, unaligned(cupy, 5)):
        for function in (aligned, contiguous):
            copy = function(view)
            assert copy.flags.c_contiguous
            assert copy.data.ptr % 16 == 0
            assert_array_equal(copy.get(), view.get())
    assert x[4:].data.ptr == aligned(x[4:]).data.ptr  # a multiple of 16 bytes
    assert x[1:].data.ptr == contiguous(x[1:]).data.ptr
    assert aligned(x[1:]).data.ptr % 16 == 0
    assert_array_equal(aligned(x[1:]).get(), np.arange(1, 40))

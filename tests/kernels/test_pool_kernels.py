"""Pooling: numbers by hand, and the definition over drawn options and around a vector of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pool_cases import PoolCase, pool_cases
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")

NAN, INF = np.nan, np.inf
SIXTEEN = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
SPREAD = np.array([[[[1, 2], [8, 4]]]], np.float32)


def line(*values: float) -> np.ndarray:
    return np.array([[values]], np.float32)


def test_average_of_sixteen_numbers_and_back() -> None:
    assert_array_equal(kernels.avg_pool_forward(SIXTEEN, 2)[0, 0], [[3.5, 5.5], [11.5, 13.5]])
    assert_array_equal(
        kernels.avg_pool_backward(SPREAD, SIXTEEN.shape, 2)[0, 0],
        [[0.25, 0.25, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5], [2, 2, 1, 1], [2, 2, 1, 1]],
    )


def test_maximum_of_sixteen_numbers_and_back() -> None:
    x = SIXTEEN.copy()
    x[0, 0, 0, 0] = 20  # so that one maximum is not the last of its window
    y, argmax = kernels.max_pool_forward(x, 2)
    assert_array_equal(y[0, 0], [[20, 8], [14, 16]])
    assert_array_equal(argmax[0, 0], [[0, 7], [13, 15]])
    assert_array_equal(
        kernels.max_pool_backward(SPREAD, argmax, x.shape)[0, 0],
        [[1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0], [0, 8, 0, 4]],
    )


def test_the_first_of_equals_wins() -> None:
    y, argmax = kernels.max_pool_forward(np.full((2, 3, 4, 6), 5, np.float32), (2, 3))
    assert (y == 5).all()
    assert_array_equal(argmax, np.broadcast_to([[0, 3], [12, 15]], (2, 3, 2, 2)))


def test_negative_zero_equals_zero() -> None:
    y, argmax = kernels.max_pool_forward(line(-0.0, 0.0, 0.0, -0.0), 2)
    assert_array_equal(y, line(0, 0))
    assert_array_equal(argmax[0, 0], [0, 2])
    assert_array_equal(np.signbit(y[0, 0]), [True, False])


def test_nan_wins_over_numbers() -> None:
    y, argmax = kernels.max_pool_forward(line(1, NAN, 3, NAN, INF, 0, 4, 5, -1), 3)
    assert_array_equal(y, line(NAN, NAN, 5))
    assert_array_equal(argmax[0, 0], [1, 3, 7])


def test_the_first_of_two_nans_wins() -> None:
    _, argmax = kernels.max_pool_forward(line(1, NAN, NAN, NAN, NAN, 2), 3)
    assert_array_equal(argmax[0, 0], [1, 3])


@pytest.mark.parametrize("lowest", [-INF, np.finfo(np.float32).min, -1.0])
def test_padding_never_wins(lowest: float) -> None:
    x = np.full((1, 2, 3, 3), lowest, np.float32)
    y, argmax = kernels.max_pool_forward(x, 3, stride=2, padding=((1, 2), (2, 1)))
    assert (y == np.float32(lowest)).all()
    # The windows' first real elements, by hand: rows 0.. and 1.., columns 0.. in both windows.
    assert_array_equal(argmax, np.broadcast_to([[0, 0], [3, 3]], argmax.shape))


def test_overlapping_windows_add_up() -> None:
    x = line(1, 2, 9, 2, 1)
    y, argmax = kernels.max_pool_forward(x, 3, stride=1)
    assert_array_equal(y, line(9, 9, 9))
    assert_array_equal(kernels.max_pool_backward(line(1, 10, 100), argmax, x.shape), line(0, 0, 111, 0, 0))
    assert_array_equal(kernels.avg_pool_backward(line(3, 30, 300), x.shape, 3, stride=1), line(1, 11, 111, 110, 100))


def test_ceil_mode_adds_the_window_that_starts_inside() -> None:
    x = line(1, 2, 3, 4, 5)
    assert_array_equal(kernels.max_pool_forward(x, 2)[0], line(2, 4))
    assert_array_equal(kernels.max_pool_forward(x, 2, ceil_mode=True)[0], line(2, 4, 5))
    # What ceil_mode adds beyond the padding counts in no average ...
    assert_array_equal(kernels.avg_pool_forward(x, 2, ceil_mode=True), line(1.5, 3.5, 5))
    # ... and a window that would start in the trailing padding is dropped.
    assert_array_equal(kernels.max_pool_forward(line(1, 2), 2, padding=1, ceil_mode=True)[0], line(1, 2))
    assert_array_equal(kernels.max_pool_forward(line(1, 2), 3, stride=3, padding=1, ceil_mode=True)[0], line(2))


def test_what_ceil_mode_adds_in_two_dimensions() -> None:
    x = np.arange(1, 16, dtype=np.float32).reshape(1, 1, 5, 3)
    y = kernels.avg_pool_forward(x, 2, ceil_mode=True)
    assert_array_equal(y[0, 0], [[3, 4.5], [9, 10.5], [13.5, 15]])
    # A row of padding below counts as zeros, but the column that ceil_mode adds still counts as nothing.
    y = kernels.avg_pool_forward(x, 2, padding=((0, 1), (0, 0)), ceil_mode=True)
    assert_array_equal(y[0, 0], [[3, 4.5], [9, 10.5], [6.75, 7.5]])
    g = np.array([[[[4, 2], [8, 6], [2, 1]]]], np.float32)
    assert_array_equal(
        kernels.avg_pool_backward(g, x.shape, 2, ceil_mode=True)[0, 0],
        [[1, 1, 1], [1, 1, 1], [2, 2, 3], [2, 2, 3], [1, 1, 1]],
    )


def test_padding_counts_in_an_average_or_does_not() -> None:
    x = line(2, 4, 6)
    assert_array_equal(kernels.avg_pool_forward(x, 2, padding=1), line(1, 5))
    assert_array_equal(kernels.avg_pool_forward(x, 2, padding=1, count_include_pad=False), line(2, 5))
    g = line(2, 4)
    assert_array_equal(kernels.avg_pool_backward(g, x.shape, 2, padding=1), line(1, 2, 2))
    assert_array_equal(kernels.avg_pool_backward(g, x.shape, 2, padding=1, count_include_pad=False), line(2, 2, 2))


def test_strides_larger_than_the_window_skip_elements() -> None:
    x = line(9, 1, 2, 9, 3, 4, 9)
    y, argmax = kernels.max_pool_forward(x[..., 1:], 2, stride=3)
    assert_array_equal(y, line(2, 4))
    assert_array_equal(kernels.max_pool_backward(line(5, 6), argmax, (1, 1, 6)), line(0, 5, 0, 0, 6, 0))


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2])
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50)  # most windows are compiled anew
def test_definition(dimensions: int, ceil_mode: bool, data: st.DataObject, seed: int) -> None:
    check_against_definition(data.draw(pool_cases(dimensions, ceil_mode)), seed)


@pytest.mark.parametrize("ceil_mode", [False, True])
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_definition_in_three_dimensions(ceil_mode: bool, data: st.DataObject, seed: int) -> None:
    check_against_definition(data.draw(pool_cases(3, ceil_mode)), seed)


def check_against_definition(case: PoolCase, seed: int) -> None:
    x = case.integers(seed)
    g = np.random.default_rng(seed).integers(-3, 4, case.y_shape).astype(np.float32)
    expected_y, expected_argmax = np.empty(case.y_shape, np.float32), np.empty(case.y_shape, np.int32)
    expected_grad = np.zeros(case.x_shape, np.float32)
    for p, inside, _ in case.windows():
        for n, c in np.ndindex(case.x_shape[:2]):
            winner = max(inside, key=lambda i: x[(n, c, *i)])
            expected_y[(n, c, *p)] = x[(n, c, *winner)]
            expected_argmax[(n, c, *p)] = np.ravel_multi_index(winner, case.x_shape[2:])
            expected_grad[(n, c, *winner)] += g[(n, c, *p)]
    y, argmax = kernels.max_pool_forward(x, **case.options)
    assert_array_equal(y, expected_y, strict=True)
    assert_array_equal(argmax, expected_argmax, strict=True)
    assert_array_equal(kernels.max_pool_backward(g, argmax, x.shape), expected_grad, strict=True)

    for count_include_pad in (True, False):
        expected_y, expected_grad = np.empty(case.y_shape), np.zeros(case.x_shape)
        for p, inside, with_padding in case.windows():
            count = with_padding if count_include_pad else len(inside)
            expected_y[(..., *p)] = sum(x[(..., *i)].astype(np.float64) for i in inside) / count
            for i in inside:
                expected_grad[(..., *i)] += g[(..., *p)] / count
        options = {**case.options, "count_include_pad": count_include_pad}
        assert_close(kernels.avg_pool_forward(x, **options), expected_y, length=64)
        assert_close(kernels.avg_pool_backward(g, x.shape, **options), expected_grad, length=64)


@pytest.mark.parametrize("stride", [2**40, 2**63, 2**70])
def test_strides_far_beyond_the_input(stride: int) -> None:
    # One window, whatever the stride, with ceil_mode as well.
    for ceil_mode in (False, True):
        options = {"stride": stride, "ceil_mode": ceil_mode}
        y, argmax = kernels.max_pool_forward(SIXTEEN, 2, **options)
        assert (y.item(), argmax.item()) == (6, 5)
        assert kernels.avg_pool_forward(SIXTEEN, 2, **options).item() == 3.5
        grad_x = kernels.avg_pool_backward(np.full((1, 1, 1, 1), 4, np.float32), SIXTEEN.shape, 2, **options)
        assert_array_equal(grad_x[0, 0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("window", [2**40, 2**63, 2**70])
def test_windows_far_beyond_the_input(window: int) -> None:
    # ceil_mode allows one; it covers everything, and what it covers beyond counts as nothing.
    y, argmax = kernels.max_pool_forward(SIXTEEN, window, ceil_mode=True)
    assert (y.item(), argmax.item()) == (16, 15)
    assert kernels.avg_pool_forward(SIXTEEN, window, ceil_mode=True).item() == 8.5
    grad_x = kernels.avg_pool_backward(np.full((1, 1, 1, 1), 32, np.float32), SIXTEEN.shape, window, ceil_mode=True)
    assert_array_equal(grad_x[0, 0], np.full((4, 4), 2))


def test_no_images() -> None:
    for x in (
        np.empty((0, 3, 4), np.float32),
        np.empty((0, 3, 4, 5), np.float32),
        np.empty((0, 3, 4, 5, 2), np.float32),
    ):
        y, argmax = kernels.max_pool_forward(x, 2)
        assert y.shape == argmax.shape == kernels.avg_pool_forward(x, 2).shape == (0, 3, *(s // 2 for s in x.shape[2:]))
        assert kernels.max_pool_backward(y, argmax, x.shape).shape == x.shape
        assert kernels.avg_pool_backward(y, x.shape, 2).shape == x.shape


@pytest.mark.parametrize("batch", [0, 1, 15, 16, 17, 33])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 9])
def test_batches_and_widths_around_a_vector(batch: int, width: int) -> None:
    case = PoolCase((batch, 3, 5, width), (2, 1), (2, 1), ((1, 0), (0, 0)), False)
    check_against_definition(case, batch + width)


@pytest.mark.parametrize("width", [1, 2, 3, 31, 32, 33, 34, 66])
def test_rows_around_a_vector_of_windows(width: int) -> None:
    x = np.random.default_rng(9).integers(-3, 4, (2, 3, 4, 2 * width + 1)).astype(np.float32)
    blocks = x[..., : 2 * width].reshape(2, 3, 2, 2, width, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 3, 2, width, 4)
    y, argmax = kernels.max_pool_forward(x, 2)
    assert_array_equal(y, blocks.max(axis=-1))
    tap = blocks.argmax(axis=-1)  # NumPy's first one wins, too
    row, column = np.arange(2)[:, None] * 2 + tap // 2, np.arange(width) * 2 + tap % 2
    assert_array_equal(argmax, row * x.shape[-1] + column)
    assert_array_equal(kernels.avg_pool_forward(x, 2), blocks.sum(axis=-1) / 4)
    grad_x = kernels.avg_pool_backward(4 * y, x.shape, 2)
    assert_array_equal(grad_x[..., : 2 * width], y.repeat(2, axis=2).repeat(2, axis=3))
    assert (grad_x[..., 2 * width :] == 0).all()


def test_the_average_of_whole_planes() -> None:
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert_array_equal(kernels.avg_pool_forward(x, (4, 5))[..., 0, 0], [[9.5, 29.5, 49.5], [69.5, 89.5, 109.5]])
    g = np.arange(20, 140, 20, dtype=np.float32).reshape(2, 3, 1, 1)
    assert_array_equal(kernels.avg_pool_backward(g, x.shape, (4, 5)), np.broadcast_to(g / 20, x.shape))

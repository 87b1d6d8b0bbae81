"""Pooling in the simulator: every option, and both ways to find the windows over an element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, integers, on_device

from cnn import kernels

CASES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 2, 4, 6), {"window": 2}),
    ((2, 2, 5, 7), {"window": 2}),  # the last row and column have no window
    ((1, 2, 3, 4), {"window": 2, "ceil_mode": True}),
    ((1, 1, 5, 5), {"window": 3, "stride": 1, "padding": 1}),
    ((1, 1, 5, 6), {"window": (3, 2), "stride": (2, 1), "padding": ((0, 2), (1, 0)), "ceil_mode": True}),
    ((2, 1, 4, 7), {"window": 2, "stride": 3}),
    ((1, 2, 9), {"window": 3, "stride": 2, "padding": 1}),
    ((1, 2, 7), {"window": 2, "ceil_mode": True}),
    ((1, 1, 7), {"window": 2, "stride": 5, "padding": ((1, 0),)}),  # reaches out on one side only
    ((1, 1, 8, 9), {"window": (8, 9)}),  # large enough for all lanes of a warp
    ((1, 1, 10, 9), {"window": 8, "stride": 1, "padding": 1}),
    ((0, 2, 4, 4), {"window": 2}),
]


@pytest.mark.parametrize(("shape", "options"), CASES)
def test_maximum_and_its_gradient(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x = integers(*shape)
    y, argmax = check_parity("max_pool_forward", {"x": x, **options})
    given = {"grad_output": integers(*y.shape, seed=1), "argmax": argmax, "input_shape": shape}
    (grad,) = check_parity("max_pool_backward", {**given, **options})
    assert_array_equal(on_device("max_pool_backward", given)[0], grad)  # without the windows


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize(("shape", "options"), CASES)
def test_average_and_its_gradient(shape: tuple[int, ...], options: dict[str, Any], count_include_pad: bool) -> None:
    options = {**options, "count_include_pad": count_include_pad}
    (y,) = check_parity("avg_pool_forward", {"x": integers(*shape), **options}, length=256)
    given = {"grad_output": integers(*y.shape, seed=1), "input_shape": shape, **options}
    check_parity("avg_pool_backward", given, length=256)


def test_ties_nan_and_infinity() -> None:
    x = np.array([1, np.nan, np.nan, 3, -np.inf, -np.inf, 5, np.inf, np.inf, 0.0, -0.0, 0.0], np.float32)
    y, argmax = check_parity("max_pool_forward", {"x": x.reshape(1, 1, 12), "window": 3})
    assert_array_equal(argmax[0, 0], [1, 3, 7, 9])
    y, _ = check_parity("max_pool_forward", {"x": np.full((1, 1, 3), -np.inf, np.float32), "window": 2, "padding": 1})
    assert (y == -np.inf).all()


@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_argmax_of_another_integer_type(dtype: type) -> None:
    given = {"grad_output": integers(1, 1, 2, 2), "argmax": np.array([[[[0, 3], [9, 15]]]], dtype), "window": 2}
    check_parity("max_pool_backward", {**given, "input_shape": (1, 1, 4, 4)})


@pytest.mark.parametrize("wrong", [-1, 16, 2**31 - 1])
def test_argmax_outside_the_plane_adds_to_nothing(wrong: int) -> None:
    # The host raises an error; here the values are never read back, and never an address.
    argmax = np.array([[[[0, wrong], [8, 15]]]], np.int32)
    grad_output = np.array([[[[1, 2], [3, 4]]]], np.float32)
    for windows in ({}, {"window": 2}):
        given = {"grad_output": grad_output, "argmax": argmax, "input_shape": (1, 1, 4, 4), **windows}
        (grad,) = on_device("max_pool_backward", given)
        assert_array_equal(grad.ravel()[[0, 8, 15]], [1, 3, 4])
        assert grad.sum() == 8


def test_three_dimensions_are_refused() -> None:
    with kernels.backend("cuda"), pytest.raises(kernels.ShapeError, match="one and two dimensions, got 3"):
        kernels.max_pool_forward(integers(1, 1, 2, 2, 2), 2)

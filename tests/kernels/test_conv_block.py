"""A convolution with activation and pooling: worked by hand, and what its parts give one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from hypothesis import given
from hypothesis import strategies as st
from tolerances import assert_close

from cnn import kernels
from cnn.kernels import ShapeError

# The first figures of DESIGN's example: x = 1..20, a filter of 1..4.
X = np.arange(1, 21, dtype=np.float32).reshape(1, 1, 4, 5)
WEIGHT = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 2, 2)


def test_worked_by_hand(backend: str) -> None:
    # z = [[51, 61, 71, 81], [101, 111, 121, 131], [151, ...]] - 56: two windows fit, the third row is left out.
    bias = np.array([-56], np.float32)
    y, argmax = kernels.conv_block_forward(X, WEIGHT, bias, activation="relu", window=2)
    assert y.tolist() == [[[[55, 75]]]]
    assert argmax.tolist() == [[[[5, 7]]]]
    grad_weight, grad_bias = np.full_like(WEIGHT, np.nan), np.full_like(bias, np.nan)
    g = np.array([10, 1], np.float32).reshape(1, 1, 1, 2)
    grad_x = kernels.conv_block_backward(
        X, WEIGHT, g, grad_weight, grad_bias, activation="relu", y=y, window=2, argmax=argmax
    )
    # grad_z is 10 at (1, 1) and 1 at (1, 3).
    assert grad_weight.tolist() == [[[[70 + 9, 80 + 10], [120 + 14, 130 + 15]]]]
    assert grad_bias.tolist() == [11]
    assert grad_x.tolist() == [[[[0] * 5, [0, 10, 20, 1, 2], [0, 30, 40, 3, 4], [0] * 5]]]


def test_without_a_window(backend: str) -> None:
    y, argmax = kernels.conv_block_forward(X, WEIGHT)
    assert argmax is None
    assert y[0, 0, 0].tolist() == [51, 61, 71, 81]
    grad_weight = np.full_like(WEIGHT, np.nan)
    assert kernels.conv_block_backward(X, WEIGHT, y, grad_weight, needs_input_gradient=False) is None
    assert grad_weight.tolist() == [[[[12590, 13982], [19550, 20942]]]]


@given(st.integers(1, 2).flatmap(conv_cases), st.integers(1, 3), st.data())
def test_is_its_parts(case: ConvCase, window: int, data: Any) -> None:
    x, weight, g = case.integers(data.draw(st.integers(0, 9)))
    window = min(window, *g.shape[2:])
    pooled = window > 1
    bias = np.arange(len(weight), dtype=np.float32) - 1
    z = kernels.conv_forward(x, weight, bias, **case.options, activation="relu")
    y, argmax = kernels.conv_block_forward(
        x, weight, bias, **case.options, activation="relu", window=window if pooled else None
    )
    g = g[(..., *(slice(size // window) for size in g.shape[2:]))]
    before = kernels.relu_backward(g, y)
    if pooled:
        expected, places = kernels.max_pool_forward(z, window)
        np.testing.assert_array_equal(argmax, places)
        before = kernels.max_pool_backward(before, argmax, z.shape)
    else:
        expected = z
    np.testing.assert_array_equal(y, expected)
    grad_weight, grad_bias = np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    options = {"window": window, "argmax": argmax} if pooled else {}
    grad_x = kernels.conv_block_backward(
        x, weight, g, grad_weight, grad_bias, **case.options, activation="relu", y=y, input_activation="relu", **options
    )
    np.testing.assert_array_equal(grad_weight, kernels.conv_kernel_gradient(x, before, weight.shape, **case.options))
    np.testing.assert_array_equal(grad_bias, kernels.conv_bias_gradient(before))
    whole = kernels.conv_input_gradient(before, weight, x.shape, **case.options)
    np.testing.assert_array_equal(grad_x, kernels.relu_backward(whole, x))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_smooth_activations(backend: str, activation: str) -> None:
    rng = np.random.default_rng(3)
    x, weight = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((17, 3, 8, 8), (5, 3, 3, 3)))
    g = rng.uniform(-1, 1, (17, 5, 3, 3)).astype(np.float32)
    found = {}
    for dtype in (np.float32, np.float64):
        parts = [array.astype(dtype) for array in (x, weight, g)]
        y, argmax = kernels.conv_block_forward(*parts[:2], activation=activation, window=2)
        grad_weight = np.full(weight.shape, np.nan, dtype)
        options = {"activation": activation, "y": y, "window": 2, "argmax": argmax, "input_activation": activation}
        grad_x = kernels.conv_block_backward(*parts, grad_weight, **options)
        found[dtype] = y, grad_weight, grad_x
    for ours, expected, length in zip(found[np.float32], found[np.float64], (31, 17 * 9 * 4, 45 * 4), strict=True):
        assert_close(ours, expected, length=length)


def test_wrong_calls() -> None:
    y, argmax = kernels.conv_block_forward(X, WEIGHT, window=2)
    grad_weight = np.full_like(WEIGHT, np.nan)
    with pytest.raises(ShapeError, match="conv_block_backward: window and argmax come together, got argmax"):
        kernels.conv_block_backward(X, WEIGHT, kernels.conv_forward(X, WEIGHT), grad_weight, argmax=argmax)
    with pytest.raises(ShapeError, match=r"argmax must lie in 0\.\.11, got values from 5 to 12"):
        kernels.conv_block_backward(X, WEIGHT, y, grad_weight, window=2, argmax=argmax + np.int32([0, 5]))
    with pytest.raises(ShapeError, match="conv_block_backward: y and activation come together, got activation='tanh'"):
        kernels.conv_block_backward(X, WEIGHT, y, grad_weight, window=2, argmax=argmax, activation="tanh")
    with pytest.raises(
        ShapeError, match="conv_block_forward: the padded input must be at least as large as the window"
    ):
        kernels.conv_block_forward(X, WEIGHT, window=7)
    assert np.isnan(grad_weight).all()

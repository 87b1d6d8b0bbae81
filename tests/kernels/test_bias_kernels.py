"""Bias and activation of a dense layer: what the parts give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from cnn import kernels
from cnn.kernels import ShapeError

X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
BIAS = np.array([1, 2, -3], np.float32)


def test_worked_by_hand(backend: str) -> None:
    y = X.copy()
    kernels.add_bias(y, BIAS)
    assert y.tolist() == [[2, 0, 0], [-3, 7, -9]]
    y = X.copy()
    kernels.add_bias(y, BIAS, activation="relu")
    assert y.tolist() == [[2, 0, 0], [0, 7, 0]]
    grad_bias = np.full(3, np.nan, np.float32)
    grad = kernels.bias_backward(X, grad_bias, activation="relu", y=y)
    assert grad.tolist() == [[1, 0, 0], [0, 5, 0]]
    assert grad_bias.tolist() == [1, 5, 0]


def test_without_an_activation_the_gradient_passes_as_it_is(backend: str) -> None:
    grad_bias = np.full(3, np.nan, np.float32)
    assert kernels.bias_backward(X, grad_bias) is X
    assert grad_bias.tolist() == [-3, 3, -3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_is_the_sum_and_then_the_activation(backend: str, activation: str, dtype: type) -> None:
    rng = np.random.default_rng(5)
    x, g = (rng.uniform(-1, 1, (33, 17)).astype(dtype) for _ in range(2))
    bias, grad_bias = rng.uniform(-1, 1, 17).astype(dtype), np.full(17, np.nan, dtype)
    y = x.copy()
    kernels.add_bias(y, bias, activation=activation)
    np.testing.assert_array_equal(y, getattr(kernels, f"{activation}_forward")(x + bias))
    grad = kernels.bias_backward(g, grad_bias, activation=activation, y=y)
    np.testing.assert_array_equal(grad, getattr(kernels, f"{activation}_backward")(g, y))
    assert_close(grad_bias, grad.astype(np.float64).sum(axis=0), length=64)


def test_wrong_calls() -> None:
    grad_bias = np.zeros(3, np.float32)
    with pytest.raises(ShapeError, match=r"add_bias: x must be \(N, K\), got \(6,\)"):
        kernels.add_bias(X.reshape(-1), BIAS)
    with pytest.raises(ShapeError, match="add_bias: x must be contiguous"):
        kernels.add_bias(np.asfortranarray(X), BIAS)
    with pytest.raises(ShapeError, match=r"add_bias: activation must be one of .*, got 'leaky_relu'"):
        kernels.add_bias(X.copy(), BIAS, activation="leaky_relu")
    with pytest.raises(ShapeError, match=r"bias_backward: y and activation come together, got activation='relu'"):
        kernels.bias_backward(X, grad_bias, activation="relu")
    with pytest.raises(ShapeError, match="bias_backward: y and activation come together, got activation=None"):
        kernels.bias_backward(X, grad_bias, y=X)
    with pytest.raises(ShapeError, match="bias_backward: grad_bias must be contiguous"):
        kernels.bias_backward(X, np.zeros(6, np.float32)[::2])
    assert not grad_bias.any()

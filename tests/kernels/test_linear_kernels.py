"""The dense layer: worked by hand, and what its parts give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from cnn import kernels
from cnn.kernels import ShapeError

X = np.array([[1, -2], [-4, 5]], np.float32)
WEIGHT = np.array([[1, 1], [2, 0], [0, -1]], np.float32)
BIAS = np.array([2, -1, 0], np.float32)
G = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def gradients() -> tuple[np.ndarray, np.ndarray]:
    return np.full((3, 2), np.nan, np.float32), np.full(3, np.nan, np.float32)


def test_worked_by_hand(backend: str) -> None:
    assert kernels.linear_forward(X, WEIGHT).tolist() == [[-1, 2, 2], [1, -8, -5]]
    y = kernels.linear_forward(X, WEIGHT, BIAS, activation="relu")
    assert y.tolist() == [[1, 1, 2], [3, 0, 0]]
    grad_weight, grad_bias = gradients()
    # g = [[1, 2, 3], [4, 0, 0]]: where y is 0 nothing comes back.
    grad_x = kernels.linear_backward(X, WEIGHT, G, grad_weight, grad_bias, activation="relu", y=y)
    assert grad_x.tolist() == [[5, -2], [4, 4]]
    assert grad_weight.tolist() == [[-15, 18], [2, -4], [3, -6]]
    assert grad_bias.tolist() == [5, 2, 3]


def test_the_gradient_from_before_an_activation(backend: str) -> None:
    grad_weight, grad_bias = gradients()
    grad_x = kernels.linear_backward(X, WEIGHT, G, grad_weight, grad_bias, input_activation="relu")
    assert grad_x.tolist() == [[5, 0], [0, -2]]  # [[5, -2], [14, -2]] where x > 0
    assert grad_weight.tolist() == [[-15, 18], [-18, 21], [-21, 24]]


def test_what_is_not_needed_is_left_out(backend: str) -> None:
    grad_weight, _ = gradients()
    assert kernels.linear_backward(X, WEIGHT, G, grad_weight, needs_input_gradient=False) is None
    assert grad_weight.tolist() == [[-15, 18], [-18, 21], [-21, 24]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (33, 17, 9), (64, 400, 120)])
def test_is_its_parts(backend: str, shape: tuple[int, int, int], activation: str | None, dtype: type) -> None:
    images, channels, filters = shape
    rng = np.random.default_rng(5)
    x, weight, bias, g = (
        rng.uniform(-1, 1, size).astype(dtype)
        for size in ((images, channels), (filters, channels), filters, (images, filters))
    )
    wide = [array.astype(np.float64) for array in (x, weight, bias, g)]
    expected = wide[0] @ wide[1].T + wide[2]
    if activation is not None:
        expected = getattr(kernels, f"{activation}_forward")(expected)
    y = kernels.linear_forward(x, weight, bias, activation=activation)
    assert_close(y, expected, length=channels + 4)
    grad_weight, grad_bias = np.full((filters, channels), np.nan, dtype), np.full(filters, np.nan, dtype)
    options = {} if activation is None else {"activation": activation, "y": y, "input_activation": activation}
    grad_x = kernels.linear_backward(x, weight, g, grad_weight, grad_bias, **options)
    before = wide[3]
    if activation is not None:
        before = getattr(kernels, f"{activation}_backward")(wide[3], y.astype(np.float64))
    expected = before @ wide[1]
    if activation is not None:
        expected = getattr(kernels, f"{activation}_backward")(expected, wide[0])
    assert_close(grad_x, expected, length=4 * filters)
    assert_close(grad_weight, before.T @ wide[0], length=4 * images + 4)
    assert_close(grad_bias, before.sum(axis=0), length=4 * images + 4)


def test_wrong_calls() -> None:
    grad_weight, grad_bias = gradients()
    with pytest.raises(ShapeError, match=r"linear_forward: x must be \(N, C\), got \(4,\)"):
        kernels.linear_forward(X.reshape(-1), WEIGHT)
    with pytest.raises(ShapeError, match=r"same number of channels, got \(2, 2\) and \(3, 1\)"):
        kernels.linear_forward(X, WEIGHT[:, :1])
    with pytest.raises(ShapeError, match=r"linear_forward: activation must be one of .*, got 'leaky_relu'"):
        kernels.linear_forward(X, WEIGHT, activation="leaky_relu")
    with pytest.raises(ShapeError, match="linear_backward: y and activation come together, got activation='relu'"):
        kernels.linear_backward(X, WEIGHT, G, grad_weight, activation="relu")
    with pytest.raises(ShapeError, match="linear_backward: grad_bias must be contiguous"):
        kernels.linear_backward(X, WEIGHT, G, grad_weight, np.zeros(6, np.float32)[::2])
    with pytest.raises(ShapeError, match="linear_backward: grad_weight must not share memory with an input"):
        kernels.linear_backward(X, WEIGHT, G, WEIGHT)
    assert np.isnan(grad_weight).all()
    assert np.isnan(grad_bias).all()

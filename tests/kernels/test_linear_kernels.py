"""The dense layer: worked by hand, and what its parts give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from cnn import kernels
from cnn.kernels import ShapeError
from cnn.kernels.threads import set_num_threads

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
def test_dropout_behind_a_relu_is_a_layer_of_its_own(backend: str, dtype: type) -> None:
    rng = np.random.default_rng(6)
    x, weight, bias, g = (rng.uniform(-1, 1, size).astype(dtype) for size in ((33, 9), (17, 9), 17, (33, 17)))
    drop = {"p": 0.25, "state": np.array([5, 6], np.uint64), "call": 7}
    y = kernels.linear_forward(x, weight, bias, activation="relu")
    dropped = kernels.linear_forward(x, weight, bias, activation="relu", dropout=tuple(drop.values()))
    np.testing.assert_array_equal(dropped, kernels.dropout(y, **drop))
    grad_weight, grad_bias = np.full((17, 9), np.nan, dtype), np.full(17, np.nan, dtype)
    wanted_weight, wanted_bias = grad_weight.copy(), grad_bias.copy()
    before = kernels.relu_backward(kernels.dropout(g, **drop), y)
    wanted = kernels.linear_backward(x, weight, before, wanted_weight, wanted_bias)
    options = {"activation": "relu", "y": dropped, "dropout": 0.25}
    found = kernels.linear_backward(x, weight, g, grad_weight, grad_bias, **options)
    for one, other in ((found, wanted), (grad_weight, wanted_weight), (grad_bias, wanted_bias)):
        np.testing.assert_array_equal(one, other)
    # And taken over by the layer behind, which has nothing but what was dropped.
    next_weight = rng.uniform(-1, 1, (4, 17)).astype(dtype)
    g, grad_weight = rng.uniform(-1, 1, (33, 4)).astype(dtype), np.full((4, 17), np.nan, dtype)
    plain = kernels.linear_backward(dropped, next_weight, g, grad_weight)
    options = {"input_activation": "relu", "input_dropout": 0.25}
    found = kernels.linear_backward(dropped, next_weight, g, grad_weight, **options)
    np.testing.assert_array_equal(found, kernels.relu_backward(kernels.dropout(plain, **drop), y))


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
    with pytest.raises(ShapeError, match=r'input_dropout 0\.5 needs input_activation "relu", got None'):
        kernels.linear_backward(X, WEIGHT, G, grad_weight, input_dropout=0.5)
    with pytest.raises(ShapeError, match=r"linear_backward: dropout must lie in 0\.\.1, got 2"):
        kernels.linear_backward(X, WEIGHT, G, grad_weight, dropout=2)
    with pytest.raises(ShapeError, match=r"linear_forward: p must be at least 0, got -1"):
        kernels.linear_forward(X, WEIGHT, dropout=(-1, np.zeros(2, np.uint64), 0))
    assert np.isnan(grad_weight).all()
    assert np.isnan(grad_bias).all()


@pytest.mark.parametrize("images", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("filters", [1, 3, 4, 10])
@pytest.mark.parametrize("channels", [1, 15, 16, 17, 48, 84, 1024, 1030, 2100])
def test_sizes_around_a_tile(images: int, filters: int, channels: int) -> None:
    rng = np.random.default_rng(6)
    sizes = ((images, channels), (filters, channels), (filters,), (images, filters))
    x, weight, bias, g = (rng.integers(-2, 3, size).astype(np.float32) for size in sizes)
    y = kernels.linear_forward(x, weight, bias, activation="relu")
    np.testing.assert_array_equal(y, np.maximum(x.astype(int) @ weight.T.astype(int) + bias.astype(int), 0))
    grad_weight, grad_bias = np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    grad_x = kernels.linear_backward(x, weight, g, grad_weight, grad_bias, input_activation="relu")
    np.testing.assert_array_equal(grad_x, (g.astype(int) @ weight.astype(int)) * (x > 0))
    np.testing.assert_array_equal(grad_weight, g.T.astype(int) @ x.astype(int))
    np.testing.assert_array_equal(grad_bias, g.sum(axis=0))


@pytest.mark.usefixtures("threads_as_before")
def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(7)
    sizes = ((65, 1200), (31, 1200), (31,), (65, 31))
    x, weight, bias, g = (rng.standard_normal(size).astype(np.float32) for size in sizes)
    runs = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        grads = np.empty_like(weight), np.empty_like(bias)
        y = kernels.linear_forward(x, weight, bias, activation="tanh")
        grad_x = kernels.linear_backward(x, weight, g, *grads, input_activation="relu")
        runs.append([array.tobytes() for array in (y, grad_x, *grads)])
    assert runs[0] == runs[1] == runs[2]

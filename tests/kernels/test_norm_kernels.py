"""Batch normalisation by hand, over shapes around a vector, and where its sums are hard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")

Array = np.ndarray[Any, Any]

# Activations, and their derivatives by what they gave.
ACTIVATIONS: dict[str | None, tuple[Any, Any]] = {
    None: (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda y: y > 0),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y**2),
}


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def test_by_hand() -> None:
    # Channel 0 holds 1, 3 (mean 2, variance 1, unbiased 2), channel 1 holds -2, 6 (mean 2, variance 16, unbiased 32).
    x = np.array([[1, -2], [3, 6]], np.float32)
    weight, bias, running_mean, running_var = f(2, 3), f(10, 20), f(0, 4), f(1, 2)
    y, saved = kernels.batch_norm_forward(x, weight, bias, running_mean, running_var, training=True, eps=0.0)
    assert_close(y, [[8, 17], [12, 23]], length=4)
    assert_close(saved, [[2, 2], [1, 0.25]], length=4)
    # The running arrays move by a tenth.
    assert_close(running_mean, [0.2, 3.8], length=4)
    assert_close(running_var, [1.1, 5.0], length=4)
    # g = (1, 0): grad_bias 1, grad_weight = xh = -1; grad_x = w / s * (g - 1/2 + xh / 2) = 0 for two values.
    grad_x, grad_weight, grad_bias = kernels.batch_norm_backward(f(1, 0, 0, 1).reshape(2, 2), x, weight, saved)
    assert_close(grad_bias, [1, 1], length=4)
    assert_close(grad_weight, [-1, 1], length=4)
    assert_close(grad_x, np.zeros((2, 2)), length=4)


def test_evaluation_uses_the_running_arrays_and_leaves_them() -> None:
    x = np.array([[[1, 2, 3]], [[4, 5, 6]]], np.float32)
    running_mean, running_var = f(3), f(4)
    y, saved = kernels.batch_norm_forward(x, f(2), f(1), running_mean, running_var, training=False, eps=0.0)
    assert_close(y, x - 2, length=4)  # (x - 3) / 2 * 2 + 1
    assert_close(saved, [[3], [0.5]], length=4)
    assert_array_equal(running_mean, [3])
    assert_array_equal(running_var, [4])


@pytest.mark.parametrize("training", [True, False])
def test_what_goes_around_is_added_before_the_activation(training: bool) -> None:
    # Both ways xh is -1, 1, so y is 8, 12 before the sum.
    x, around, running = f(1, 3).reshape(2, 1), f(-9, 0.5).reshape(2, 1), (f(2), f(1))
    options = {"training": training, "eps": 0.0, "activation": "relu", "around": around}
    y, _ = kernels.batch_norm_forward(x, f(2), f(10), *running, **options)
    assert_array_equal(y, [[0], [12.5]])


def test_evaluation_takes_running_arrays_that_cannot_be_written() -> None:
    # Weights mapped from a file are such arrays.
    running = f(0, 3)
    running.flags.writeable = False
    x = np.ones((2, 1, 4), np.float32)
    y, _ = kernels.batch_norm_forward(x, f(1), f(0), running[:1], running[1:], training=False, eps=1.0)
    assert_close(y, np.full(x.shape, 0.5), length=4)


def test_eps_and_momentum() -> None:
    x = np.array([[3.0], [5.0]], np.float32)  # mean 4, variance 1, unbiased 2
    running_mean, running_var = f(0), f(0)
    y, saved = kernels.batch_norm_forward(
        x, f(1), f(0), running_mean, running_var, training=True, momentum=0.75, eps=3.0
    )
    assert_close(y, [[-0.5], [0.5]], length=4)
    assert_close(saved[1], [0.5], length=4)
    assert_close(running_mean, [3], length=4)
    assert_close(running_var, [1.5], length=4)


@pytest.mark.parametrize("images", [2, 15, 16, 17, 33])
@pytest.mark.parametrize("spatial", [(), (1,), (7,), (3, 5), (8, 16), (4, 4, 4)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_shapes(images: int, spatial: tuple[int, ...], activation: str | None) -> None:
    rng = np.random.default_rng(images)
    channels = 5
    shape = (images, channels, *spatial)
    x, g = (rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(2))
    x[0], x[1] = 1, -1  # so that no channel's variance is near zero, where 1 / sqrt(var) magnifies every rounding
    weight, mean, var = (rng.uniform(0.5, 1, channels).astype(np.float32) for _ in range(3))
    bias = rng.uniform(-0.5, 0.5, channels).astype(np.float32)
    act, derivative = ACTIVATIONS[activation]
    # The formulas in float64, each channel by itself as one row.
    rows, grads = (np.moveaxis(a.astype(np.float64), 1, 0).reshape(channels, -1) for a in (x, g))
    n = rows.shape[1]
    scale = 1 / np.sqrt(rows.var(axis=1) + 1e-5)
    normalised = (rows - rows.mean(axis=1)[:, None]) * scale[:, None]
    output = act(normalised * weight[:, None] + bias[:, None])
    grads = grads * derivative(output)
    sums, products = grads.sum(axis=1), (grads * normalised).sum(axis=1)
    expected_grad = (weight * scale)[:, None] * (grads - sums[:, None] / n - normalised * products[:, None] / n)

    def as_rows(a: Array) -> Array:
        return np.moveaxis(a, 1, 0).reshape(channels, -1)

    running_mean, running_var = mean.copy(), var.copy()
    y, saved = kernels.batch_norm_forward(
        x, weight, bias, running_mean, running_var, training=True, activation=activation
    )
    assert_close(as_rows(y), output, length=64)
    assert_close(saved, [rows.mean(axis=1), scale], length=64)
    assert_close(running_mean, 0.9 * mean + 0.1 * rows.mean(axis=1), length=64)
    assert_close(running_var, 0.9 * var + 0.1 * rows.var(axis=1, ddof=1), length=64)
    behind = {} if activation is None else {"activation": activation, "y": y}
    grad_x, grad_weight, grad_bias = kernels.batch_norm_backward(g, x, weight, saved, **behind)
    assert_close(as_rows(grad_x), expected_grad, length=1024)
    assert_close(grad_weight, products, length=4096)
    assert_close(grad_bias, sums, length=4096)


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    # E[x^2] - E[x]^2 would leave nothing of a variance of 0.25 beside a squared mean of 10^8.
    x = (10_000 + np.tile([0.0, 1.0], 50)).reshape(100, 1).astype(np.float32)
    y, saved = kernels.batch_norm_forward(x, f(1), f(0), f(0), f(1), training=True)
    assert_close(saved[0], [10_000.5], length=4)
    assert_close(saved[1], [1 / np.sqrt(0.25 + 1e-5)], length=16)
    # x itself is known to 1 / 1024 there, and y to the unit in the last place of mean / deviation = 20,000.
    np.testing.assert_allclose(y[:2, 0], [-1, 1], rtol=0, atol=2e-3)


@pytest.mark.parametrize("pixels", [1, 9, 1024])
@pytest.mark.parametrize("apart", ["first image", "last image", "half of them", "every other", "first element"])
def test_images_whose_means_lie_far_apart(apart: str, pixels: int) -> None:
    x = np.random.default_rng(0).standard_normal((40, 1, pixels)).astype(np.float32)
    where = {"first image": 0, "last image": -1, "half of them": slice(20, 40), "every other": slice(0, 40, 2)}
    x[where.get(apart, (0, 0, 0))] += 10_000
    _, saved = kernels.batch_norm_forward(x, f(1), f(0), f(0), f(1), training=True)
    deviation = x.astype(np.float64).std()
    np.testing.assert_allclose(saved[0], x.mean(dtype=np.float64), rtol=0, atol=1e-6 * deviation)
    np.testing.assert_allclose(saved[1], 1 / deviation, rtol=1e-6)


def test_a_constant_channel() -> None:
    x = np.full((4, 2, 3), 7, np.float32)
    y, saved = kernels.batch_norm_forward(x, f(1, 1), f(5, 6), f(0, 0), f(1, 1), training=True)
    # As far off as one rounding of 7 / sqrt(1e-5) = 2214.
    np.testing.assert_allclose(y, np.broadcast_to([[5], [6]], y.shape), rtol=0, atol=2.5e-4)
    assert_close(saved[1], np.full(2, 1e-5**-0.5), length=16)


@pytest.mark.parametrize("training", [True, False])
def test_no_images_change_nothing(training: bool) -> None:
    x = np.empty((0, 2, 3, 3), np.float32)
    running_mean, running_var = f(1, 2), f(3, 4)
    y, saved = kernels.batch_norm_forward(x, f(1, 1), f(0, 0), running_mean, running_var, training=training)
    assert y.shape == x.shape
    assert_array_equal(running_mean, [1, 2])
    assert_array_equal(running_var, [3, 4])
    grad_x, grad_weight, grad_bias = kernels.batch_norm_backward(x, x, f(1, 1), saved)
    assert grad_x.shape == x.shape
    assert_array_equal(grad_weight, [0, 0])
    assert_array_equal(grad_bias, [0, 0])

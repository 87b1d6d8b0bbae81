"""Activations at their special points, on both backends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")

INF, NAN = np.inf, np.nan
TINY = np.finfo(np.float32).smallest_subnormal


def f(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def test_relu() -> None:
    x = f(-INF, -2, -TINY, -0.0, 0, TINY, 3, INF)
    y = kernels.relu_forward(x)
    assert_array_equal(y, f(0, 0, 0, 0, 0, TINY, 3, INF))
    assert_array_equal(kernels.relu_backward(f(1, 2, 3, 4, 5, 6, 7, 8), y), f(0, 0, 0, 0, 0, 6, 7, 8))


def test_leaky_relu() -> None:
    x = f(-INF, -2, 0, 3, INF)
    y = kernels.leaky_relu_forward(x, 0.5)
    assert_array_equal(y, f(-INF, -1, 0, 3, INF))
    assert_array_equal(kernels.leaky_relu_backward(f(2, 2, 2, 2, 2), y, 0.5), f(1, 1, 1, 2, 2))
    # The slope where none is given is PyTorch's.
    assert_close(kernels.leaky_relu_forward(f(-3)), f(-0.03), length=1)
    assert_close(kernels.leaky_relu_backward(f(3), f(-1)), f(0.03), length=1)
    # A slope of 0 is relu, one of 1 the identity.
    assert_array_equal(kernels.leaky_relu_forward(f(-2, 2), 0), f(0, 2))
    assert_array_equal(kernels.leaky_relu_forward(f(-2, 2), 1), f(-2, 2))


def test_sigmoid() -> None:
    # ln 3 and -ln 3 give 3/4 and 1/4; far out the exponential would overflow if it were taken of |x|.
    x = f(0, np.log(3), -np.log(3), 1000, -1000, INF, -INF)
    y = kernels.sigmoid_forward(x)
    assert_close(y, f(0.5, 0.75, 0.25, 1, 0, 1, 0), length=1)
    assert_close(kernels.sigmoid_backward(f(16, 16, 16, 1, 1, 1, 1), y), f(4, 3, 3, 0, 0, 0, 0), length=1)


def test_tanh() -> None:
    # tanh(ln 2) = (2 - 1/2) / (2 + 1/2) = 3/5
    x = f(0, np.log(2), -np.log(2), 1000, -1000, INF, -INF)
    y = kernels.tanh_forward(x)
    assert_close(y, f(0, 0.6, -0.6, 1, -1, 1, -1), length=1)
    assert_close(kernels.tanh_backward(f(1, 25, 25, 1, 1, 1, 1), y), f(1, 16, 16, 0, 0, 0, 0), length=1)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_nan_stays_nan(name: str) -> None:
    y = getattr(kernels, f"{name}_forward")(f(1, NAN, 2))
    assert_array_equal(np.isnan(y), [False, True, False])


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (17,), (2, 3, 4, 5, 1, 2), (70_001,)])
def test_any_shape(name: str, shape: tuple[int, ...]) -> None:
    # The largest is one that several threads share, with a remainder for every vector width.
    rng = np.random.default_rng(0)
    x, g = (rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(2))
    exact = x.astype(np.float64)
    slope = {"relu": 0.0, "leaky_relu": 0.01}.get(name)
    if slope is not None:
        expected, derivative = np.where(exact > 0, exact, slope * exact), np.where(exact > 0, 1, slope)
    else:
        expected = 1 / (1 + np.exp(-exact)) if name == "sigmoid" else np.tanh(exact)
        derivative = expected * (1 - expected) if name == "sigmoid" else 1 - expected**2
    y = getattr(kernels, f"{name}_forward")(x)
    assert_close(y, expected, length=1)
    assert_close(getattr(kernels, f"{name}_backward")(g, y), g * derivative, length=4)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
@pytest.mark.parametrize("largest", [1e-3, 0.6, 0.7, 3, 20, 87])
def test_within_three_units_in_the_last_place(name: str, largest: float) -> None:
    x = np.random.default_rng(8).uniform(-largest, largest, 20_000).astype(np.float32)
    wide = x.astype(np.float64)
    exact = np.tanh(wide) if name == "tanh" else 1 / (1 + np.exp(-wide))
    y = getattr(kernels, f"{name}_forward")(x)
    assert (np.abs(y - exact) <= 3 * np.spacing(np.abs(exact).astype(np.float32))).all()


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 33])
def test_lengths_around_a_vector(name: str, size: int) -> None:
    x = np.linspace(-2, 2, 40).astype(np.float32)
    forward, backward = (getattr(kernels, f"{name}_{way}") for way in ("forward", "backward"))
    y, grad = forward(x), backward(x, forward(x))
    assert_array_equal(forward(x[3 : 3 + size]), y[3 : 3 + size])
    assert_array_equal(backward(x[3 : 3 + size], y[3 : 3 + size]), grad[3 : 3 + size])

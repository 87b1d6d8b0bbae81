"""The sums of a residual layer by hand, on every backend of this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")


def f(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def test_by_hand() -> None:
    body, around = f(1, -5, 3, np.nan), f(2, 4, -3, 1)
    assert_array_equal(kernels.residual_forward(body, around), f(3, -1, 0, np.nan))
    assert_array_equal(kernels.residual_forward(body, around, activation="relu"), f(3, 0, 0, np.nan))
    # ln 3 gives 3/4.
    assert_close(kernels.residual_forward(f(np.log(3)), f(0), activation="sigmoid"), f(0.75), length=4)
    assert_array_equal(kernels.residual_backward(f(1, 2, 3), f(10, 20, 30)), f(11, 22, 33))
    before = {"input_activation": "relu", "x": f(2, 0, 1e-30)}
    assert_array_equal(kernels.residual_backward(f(1, 2, 3), f(10, 20, 30), **before), f(11, 0, 33))
    before = {"input_activation": "tanh", "x": f(0.5, -0.5)}
    assert_array_equal(kernels.residual_backward(f(1, 2), f(3, 6), **before), f(3, 6))


@pytest.mark.parametrize("shape", [(), (0, 2), (17,), (3, 5, 7), (70_001,)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    # The largest is one that several threads share. Integers add up exactly.
    rng = np.random.default_rng(0)
    a, b, x = (rng.integers(-9, 10, shape).astype(np.float32) for _ in range(3))
    assert_array_equal(kernels.residual_forward(a, b, activation="relu"), np.maximum(a + b, 0))
    grad = kernels.residual_backward(a, b, input_activation="relu", x=x)
    assert_array_equal(grad, (a + b) * (x > 0))

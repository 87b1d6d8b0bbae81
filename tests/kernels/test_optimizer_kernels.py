"""Optimiser updates: steps by hand, and the formulas over sizes that threads and vectors do not divide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.usefixtures("backend")

Array = np.ndarray[Any, Any]


def f(*values: float) -> Array:
    return np.array(values, np.float32)


def test_sgd_by_hand() -> None:
    value, velocity = f(1), f(0)
    kernels.sgd_update(value, f(0.5), velocity, lr=0.1, momentum=0.9)
    assert_close(velocity, [0.5], length=4)
    assert_close(value, [0.95], length=4)
    kernels.sgd_update(value, f(0.5), velocity, lr=0.1, momentum=0.9)
    assert_close(velocity, [0.95], length=4)  # 0.9 * 0.5 + 0.5
    assert_close(value, [0.855], length=4)


def test_nesterov_by_hand() -> None:
    value, velocity = f(1), f(0)
    kernels.sgd_update(value, f(0.5), velocity, lr=0.1, momentum=0.9, nesterov=True)
    assert_close(value, [0.905], length=4)  # 1 - 0.1 * (0.5 + 0.9 * 0.5)
    kernels.sgd_update(value, f(0.5), velocity, lr=0.1, momentum=0.9, nesterov=True)
    assert_close(value, [0.7695], length=4)  # 0.905 - 0.1 * (0.5 + 0.9 * 0.95)


def test_weight_decay_by_hand() -> None:
    value, velocity = f(2), f(0)
    kernels.sgd_update(value, f(0), velocity, lr=0.5, weight_decay=0.1)
    assert_close(value, [1.9], length=4)
    # Adam divides the decay by its own size: the first step is lr, whatever the gradient is ...
    value, mean, square = f(2, 2), f(0, 0), f(0, 0)
    kernels.adam_update(value, f(0, 1), mean, square, step=1, lr=0.5, weight_decay=0.1)
    assert_close(value, [1.5, 1.5], length=4)
    # ... and AdamW does not: 2 * (1 - 0.5 * 0.1), and the step of the gradient where there is one.
    value, mean, square = f(2, 2), f(0, 0), f(0, 0)
    kernels.adam_update(value, f(0, 1), mean, square, step=1, lr=0.5, weight_decay=0.1, decoupled=True)
    assert_close(value, [1.9, 1.4], length=4)


def test_adam_by_hand() -> None:
    value, mean, square = f(1), f(0), f(0)
    kernels.adam_update(value, f(2), mean, square, step=1, lr=0.1, betas=(0.5, 0.75), eps=0.0)
    assert_close(mean, [1], length=4)
    assert_close(square, [1], length=4)
    assert_close(value, [0.9], length=4)  # both corrected: 2 and 4
    kernels.adam_update(value, f(-1), mean, square, step=2, lr=0.1, betas=(0.5, 0.75), eps=0.0)
    assert_close(mean, [0], length=4)  # 0.5 * 1 - 0.5
    assert_close(square, [1], length=4)  # 0.75 * 1 + 0.25
    assert_close(value, [0.9], length=4)
    # eps is added after the root: 0.1 * 3 / (sqrt(9) + 3) with everything corrected.
    value, mean, square = f(1), f(0), f(0)
    kernels.adam_update(value, f(3), mean, square, step=1, lr=0.1, eps=3.0)
    assert_close(value, [0.95], length=4)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 70_001])
def test_sizes(size: int) -> None:
    # The last is one that several threads share, with a remainder for every vector width.
    rng = np.random.default_rng(size)
    value, gradient, velocity, mean = (rng.uniform(-1, 1, size).astype(np.float32) for _ in range(4))
    square = rng.uniform(0.1, 1, size).astype(np.float32)
    before = [a.astype(np.float64) for a in (value, gradient, velocity, mean, square)]
    w, g, v, m, s = before
    kernels.sgd_update(value, gradient, velocity, lr=0.5, momentum=0.75, nesterov=True, weight_decay=0.25)
    v = 0.75 * v + g + 0.25 * w
    assert_close(velocity, v, length=4)
    w = w - 0.5 * (g + 0.25 * w + 0.75 * v)
    assert_close(value, w, length=16)

    value[...] = before[0]
    kernels.adam_update(value, gradient, mean, square, step=3, lr=0.125, betas=(0.75, 0.5), eps=0.25)
    m, s = 0.75 * m + 0.25 * g, 0.5 * s + 0.5 * g * g
    assert_close(mean, m, length=4)
    assert_close(square, s, length=4)
    expected = before[0] - 0.125 * (m / (1 - 0.75**3)) / (np.sqrt(s / (1 - 0.5**3)) + 0.25)
    assert_close(value, expected, length=16)


def test_the_first_step_overwrites_nothing_but_its_own() -> None:
    memory = np.full(12, 7, np.float32)
    value, velocity = memory[2:5], memory[7:10]
    velocity[...] = 0
    kernels.sgd_update(value, f(1, 1, 1), velocity, lr=1.0)
    assert_array_equal(memory, [7, 7, 6, 6, 6, 7, 7, 1, 1, 1, 7, 7])

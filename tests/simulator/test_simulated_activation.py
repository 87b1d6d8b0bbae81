"""Activations in the simulator: whole vectors of four, and what is left over."""

from __future__ import annotations

import numpy as np
import pytest
from parity import check_parity, integers, uniform

ACTIVATIONS = ["relu", "leaky_relu", "sigmoid", "tanh"]


@pytest.mark.parametrize("size", [0, 3, 4, 70])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sizes_around_a_vector(name: str, size: int) -> None:
    check_parity(f"{name}_forward", {"x": 4 * uniform(size)}, length=4)
    check_parity(f"{name}_backward", {"grad_output": uniform(size), "y": uniform(size, seed=1)}, length=4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_at_the_edges(name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 100.0, -100.0, 1e-30], np.float32)
    check_parity(f"{name}_forward", {"x": x}, length=4)


def test_slopes_exactly() -> None:
    for slope in (0.0, 0.5, 2.0):
        check_parity("leaky_relu_forward", {"x": integers(9), "negative_slope": slope})
        g = {"grad_output": integers(9, seed=1), "y": integers(9), "negative_slope": slope}
        check_parity("leaky_relu_backward", g)

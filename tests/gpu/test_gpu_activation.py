"""Activations on a GPU: sizes around vectors and blocks, values at the edges, arrays in any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, to_device, to_host, uniform
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.gpu

ACTIVATIONS = ["relu", "leaky_relu", "sigmoid", "tanh"]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 511, 512, 513, 64 * 6 * 28 * 28])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_sizes_around_vectors_and_blocks(name: str, size: int) -> None:
    check_parity(f"{name}_forward", {"x": 4 * uniform(size)}, length=4)
    check_parity(f"{name}_backward", {"grad_output": uniform(size), "y": uniform(size, seed=1)}, length=4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_at_the_edges(name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 100.0, -100.0, 1e-30, -1e-30, 88.0], np.float32)
    check_parity(f"{name}_forward", {"x": x}, length=4)


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_integers_exactly(name: str) -> None:
    slope = {"negative_slope": 0.25} if name == "leaky_relu" else {}
    check_parity(f"{name}_forward", {"x": integers(1030), **slope})
    check_parity(f"{name}_backward", {"grad_output": integers(1030, seed=1), "y": integers(1030), **slope})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_views_that_no_vector_load_can_take(name: str) -> None:
    x = uniform(40, 30)
    views: list[Any] = [np.s_[:, 1:], np.s_[1:], np.s_[::2, ::-1], np.s_[3, 7:]]
    for view in views:
        with kernels.backend("cuda"):
            y = getattr(kernels, f"{name}_forward")(to_device(x)[view])
            grad = getattr(kernels, f"{name}_backward")(to_device(x)[view], to_device(x)[view])
        assert_close(to_host(y), in_reference(f"{name}_forward", {"x": x[view]})[0], length=4)
        expected = in_reference(f"{name}_backward", {"grad_output": x[view], "y": x[view]})[0]
        assert_close(to_host(grad), expected, length=4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_inputs_are_never_written(name: str) -> None:
    x, y = to_device(uniform(600)), to_device(uniform(600, seed=1))
    getattr(kernels, f"{name}_forward")(x)
    getattr(kernels, f"{name}_backward")(x, y)
    assert_array_equal(to_host(x), uniform(600))
    assert_array_equal(to_host(y), uniform(600, seed=1))

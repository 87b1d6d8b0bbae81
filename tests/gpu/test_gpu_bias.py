"""Bias and activation of a dense layer on a GPU: the layers of the built-in networks, sizes around blocks, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, to_device, to_host, uniform
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.gpu

LAYERS = [(64, 120), (64, 84), (64, 10), (128, 128)]
EDGES = [(0, 3), (1, 1), (31, 7), (32, 8), (33, 9), (1000, 65)]


@pytest.mark.parametrize("size", LAYERS + EDGES)
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_both_ways(activation: str | None, size: tuple[int, int]) -> None:
    given: dict[str, Any] = {"x": uniform(*size), "bias": uniform(size[1]), "activation": activation}
    check_parity("add_bias", given, "x", length=4)
    y = {} if activation is None else {"y": uniform(*size, seed=1)}
    given = {"grad_output": uniform(*size), "grad_bias": uniform(size[1]), "activation": activation, **y}
    check_parity("bias_backward", given, "grad_bias", length=1024)


@pytest.mark.parametrize("size", LAYERS + EDGES)
def test_integers_exactly(size: tuple[int, int]) -> None:
    check_parity("add_bias", {"x": integers(*size), "bias": integers(size[1]), "activation": "relu"}, "x")
    given = {"grad_output": integers(*size), "grad_bias": uniform(size[1]), "activation": "relu"}
    check_parity("bias_backward", {**given, "y": integers(*size, seed=1)}, "grad_bias")


def test_inputs_in_any_layout(cupy: Any) -> None:
    g, y = integers(40, 31), integers(40, 31, seed=1)
    views: list[Any] = [np.s_[:, 1:], np.s_[1:, ::-1], np.s_[::3]]
    for view in views:
        grad_bias = cupy.full(g[view].shape[1], np.nan, np.float32)
        grad = kernels.bias_backward(to_device(g)[view], grad_bias, activation="relu", y=to_device(y)[view])
        given = {"grad_output": g[view], "grad_bias": to_host(grad_bias), "activation": "relu", "y": y[view]}
        expected, expected_bias = in_reference("bias_backward", given, ("grad_bias",))
        assert_array_equal(to_host(grad), expected)
        assert_array_equal(to_host(grad_bias), expected_bias)
    x, bias = to_device(uniform(5, 6)), to_device(uniform(13))[1::2]
    kernels.add_bias(x, bias)
    assert_close(to_host(x), uniform(5, 6) + uniform(13)[1::2], length=4)


def test_the_same_bits_in_every_run(cupy: Any) -> None:
    g, y = to_device(uniform(128, 120)), to_device(uniform(128, 120, seed=1))
    sums = [cupy.empty(120, np.float32) for _ in range(2)]
    for grad_bias in sums:
        kernels.bias_backward(g, grad_bias, activation="tanh", y=y)
    assert to_host(sums[0]).tobytes() == to_host(sums[1]).tobytes()

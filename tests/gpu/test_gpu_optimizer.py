"""Optimiser updates on a GPU: flat arrays of the built-in models' sizes, wherever they begin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import check_parity, integers, to_device, to_host, uniform

from cnn import kernels

pytestmark = pytest.mark.gpu

SIZES = [0, 1, 127, 128, 129, 61_706]  # the last is lenet5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(size: int, nesterov: bool) -> None:
    arrays = {"value": uniform(size), "gradient": uniform(size, seed=1), "velocity": uniform(size, seed=2)}
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01}
    check_parity("sgd_update", {**arrays, **options}, "value", "velocity", length=16)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam(size: int, decoupled: bool) -> None:
    arrays = {"value": uniform(size), "gradient": uniform(size, seed=1), "mean": uniform(size, seed=2)}
    arrays["square"] = np.abs(uniform(size, seed=3))
    for step in (1, 1000):
        # eps keeps the quotient of two small numbers from magnifying their rounding.
        options = {"step": step, "lr": 0.1, "eps": 0.1, "weight_decay": 0.01, "decoupled": decoupled}
        check_parity("adam_update", {**arrays, **options}, "value", "mean", "square", length=16)


def test_views_are_updated_where_they_are() -> None:
    # Parameters are views of one flat array; a gradient may be strided.
    options = {"lr": 0.5, "momentum": 0.5, "nesterov": True, "weight_decay": 0.25}
    memory, gradient = integers(2, 300), integers(600, seed=1)
    device = to_device(memory)
    with kernels.backend("cuda"):
        kernels.sgd_update(device[0, 1:], to_device(gradient)[2::2], device[1, 1:], **options)
    with kernels.backend("reference"):
        kernels.sgd_update(memory[0, 1:], gradient[2::2], memory[1, 1:], **options)
    assert_array_equal(to_host(device), memory)

"""Batch normalisation and the bias gradient in the simulator: one part of a channel, and several."""

from __future__ import annotations

import numpy as np
import pytest
from norm_parity import check_sum
from parity import Array, check_parity, integers, on_device, uniform
from tolerances import assert_close

from cnn import kernels

# 5 images of 11 x 10 pixels are more than one simulated block takes.
SHAPES = [(4, 3), (3, 2, 5), (2, 3, 3, 4), (5, 2, 11, 10)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_training(shape: tuple[int, ...], activation: str | None) -> None:
    x = uniform(*shape)
    x[0], x[1] = 1, -1  # so that no channel's variance is near zero, where 1 / sqrt(var) magnifies every rounding
    weight, bias, mean, var = (1.5 + uniform(shape[1], seed=seed) for seed in range(4))
    given = {"x": x, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": True}
    given |= {"momentum": 0.25, "eps": 0.5, "activation": activation}
    y, saved, *_ = check_parity("batch_norm_forward", given, "running_mean", "running_var", length=64)
    backward = {"grad_output": uniform(*shape, seed=9), "x": x, "weight": weight, "saved": saved}
    if activation is not None:
        backward |= {"activation": activation, "y": y}
    check_parity("batch_norm_backward", backward, length=1024)


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 3), (5, 2, 11, 10)])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_evaluation(shape: tuple[int, ...], activation: str | None) -> None:
    weight, bias, mean, var = (1.5 + uniform(shape[1], seed=seed) for seed in range(4))
    given = {"x": uniform(*shape), "weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    given |= {"training": False, "activation": activation}
    check_parity("batch_norm_forward", given, "running_mean", "running_var", length=16)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_what_goes_around_is_added(training: bool, activation: str | None) -> None:
    check_sum(training, activation)


def test_no_images() -> None:
    empty = np.empty((0, 2, 3), np.float32)
    weight, bias, mean, var = (1.5 + uniform(2, seed=seed) for seed in range(4))
    given = {"x": empty, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": True}
    _, saved, *_ = check_parity("batch_norm_forward", given, "running_mean", "running_var", length=4)
    check_parity("batch_norm_backward", {"grad_output": empty, "x": empty, "weight": weight, "saved": saved})


def test_strided_running_arrays_are_updated() -> None:
    x, both = uniform(6, 2, 3), 1.5 + uniform(2, 2)
    expected = both.astype(np.float64)
    for arrays, backend in ((both, "cuda"), (expected, "reference")):
        of_the_same_type = x.astype(arrays.dtype), *np.ones((2, 2), arrays.dtype)
        with kernels.backend(backend):
            kernels.batch_norm_forward(*of_the_same_type, arrays[:, 0], arrays[:, 1], training=True)
    assert_close(both, expected, length=64)


def batch_norm(x: Array) -> tuple[Array, Array]:
    """y and saved of one channel (N, 1)."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    given = {"x": x, "weight": one, "bias": zero, "running_mean": zero, "running_var": one, "training": True}
    y, saved = on_device("batch_norm_forward", given)
    return y, saved


def test_a_large_mean_does_not_swallow_the_variance() -> None:
    _, saved = batch_norm((10_000 + np.tile([0.0, 1.0], 40)).reshape(80, 1).astype(np.float32))
    assert_close(saved[:, 0], [10_000.5, 1 / np.sqrt(0.25 + 1e-5)], length=16)


def test_a_first_element_far_from_the_others_does_not_either() -> None:
    x = np.tile(np.array([-1, 1], np.float32), 40)
    x[0] = 1000
    _, saved = batch_norm(x.reshape(80, 1))
    exact = x.astype(np.float64)
    assert_close(saved[:, 0], [exact.mean(), 1 / np.sqrt(exact.var() + 1e-5)], length=16)


def test_a_constant_channel() -> None:
    y, saved = batch_norm(np.full((40, 1), 7, np.float32))
    assert (y == 0).all()
    assert_close(saved[:, 0], [7, 1e-5**-0.5], length=16)


@pytest.mark.parametrize("shape", [(3, 2, 5), (2, 3, 3, 4), (5, 2, 11, 10), (0, 2, 3)])
def test_bias_gradient(shape: tuple[int, ...]) -> None:
    check_parity("conv_bias_gradient", {"grad_output": integers(*shape)})

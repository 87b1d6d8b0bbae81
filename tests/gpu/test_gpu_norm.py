"""Batch normalisation and the bias gradient on a GPU: the layers of resnet8, parts of a channel, hard sums."""

from __future__ import annotations

import numpy as np
import pytest
from norm_parity import check_sum
from numpy.testing import assert_array_equal
from parity import Array, check_parity, in_reference, integers, on_device, to_device, to_host, uniform
from tolerances import assert_close

from cnn import kernels

pytestmark = pytest.mark.gpu

# The layers of resnet8 (batch 64), one dimension, none, and one element of a channel less and more than a block's part.
SHAPES = [(64, 16, 32, 32), (64, 32, 16, 16), (64, 64, 8, 8), (33, 7, 5), (300, 5), (89, 3, 23), (683, 2, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_training(shape: tuple[int, ...], activation: str | None) -> None:
    weight, bias, mean, var = (1.5 + uniform(shape[1], seed=seed) for seed in range(4))
    x = uniform(*shape)
    given = {"x": x, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": True}
    given |= {"activation": activation}
    y, saved, *_ = check_parity("batch_norm_forward", given, "running_mean", "running_var", length=64)
    backward = {"grad_output": uniform(*shape, seed=9), "x": x, "weight": weight, "saved": saved}
    if activation is not None:
        backward |= {"activation": activation, "y": y}
    check_parity("batch_norm_backward", backward, length=1024)


@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 2, 3), (64, 16, 32, 32), (300, 5)])
def test_evaluation(shape: tuple[int, ...]) -> None:
    weight, bias, mean, var = (1.5 + uniform(shape[1], seed=seed) for seed in range(4))
    given = {"x": uniform(*shape), "weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    check_parity("batch_norm_forward", {**given, "training": False}, "running_mean", "running_var", length=16)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_what_goes_around_is_added(training: bool, activation: str | None) -> None:
    check_sum(training, activation)


def test_no_images() -> None:
    empty = np.empty((0, 2, 3, 3), np.float32)
    weight, bias, mean, var = (1.5 + uniform(2, seed=seed) for seed in range(4))
    given = {"x": empty, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": True}
    _, saved, *_ = check_parity("batch_norm_forward", given, "running_mean", "running_var", length=4)
    check_parity("batch_norm_backward", {"grad_output": empty, "x": empty, "weight": weight, "saved": saved})


def saved_of(x: Array) -> Array:
    """Mean and 1 / sqrt(variance + 1e-5) of one channel."""
    one, zero = np.ones(1, np.float32), np.zeros(1, np.float32)
    given = {"x": x.reshape(-1, 1), "weight": one, "bias": zero, "running_mean": zero, "running_var": one}
    return on_device("batch_norm_forward", {**given, "training": True})[1][:, 0]


def check_moments(x: Array, *, length: int) -> None:
    exact = x.astype(np.float64)
    assert_close(saved_of(x), [exact.mean(), 1 / np.sqrt(exact.var() + 1e-5)], length=length)


@pytest.mark.parametrize("size", [80, 100_000])
def test_sums_that_lose_digits(size: int) -> None:
    near = np.tile(np.array([0, 1], np.float32), size // 2)
    # A squared mean of 10^8 beside a variance of 0.25.
    check_moments(10_000 + near, length=16)
    # A first element a thousand deviations from the rest: 32 bits hold the mean's distance from it to 3e-5.
    near[0] = 500
    check_moments(near, length=64)
    assert_close(saved_of(np.full(size, 7, np.float32)), [7, 1e-5**-0.5], length=16)


def test_arrays_in_any_layout() -> None:
    x, g, both = uniform(6, 8, 5, 4), uniform(6, 8, 5, 4, seed=1), 1.5 + uniform(4, 2)
    weight, bias = uniform(8, seed=2)[::2], uniform(8, seed=3)[::-2]
    x, g = x[:, ::2], g[::-1, 1::2]
    on_gpu = to_device(both)
    arguments = [to_device(a) for a in (weight, bias)]
    y, saved = kernels.batch_norm_forward(to_device(x), *arguments, on_gpu[:, 0], on_gpu[:, 1], training=True)
    expected_both = both.astype(np.float64)
    running = {"running_mean": expected_both[:, 0], "running_var": expected_both[:, 1]}
    doubles = {"x": x.astype(np.float64), "weight": weight.astype(np.float64), "bias": bias.astype(np.float64)}
    with kernels.backend("reference"):
        expected = kernels.batch_norm_forward(**doubles, **running, training=True)
    for ours, wanted in zip((y, saved, on_gpu), (*expected, expected_both), strict=True):
        assert_close(to_host(ours), wanted, length=256)


def test_two_runs_give_the_same_bits() -> None:
    weight, bias, mean, var = (1.5 + uniform(16, seed=seed) for seed in range(4))
    x = uniform(40, 16, 16, 16)
    given = {"x": x, "weight": weight, "bias": bias, "running_mean": mean, "running_var": var, "training": True}
    backward = {"grad_output": x[::-1], "x": x, "weight": weight, "saved": 1 + uniform(2, 16)}
    for name, arguments in (("batch_norm_forward", given), ("batch_norm_backward", backward)):
        first, second = on_device(name, arguments), on_device(name, arguments)
        assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


@pytest.mark.parametrize("shape", [(64, 6, 28, 28), (128, 32, 32, 32), (64, 16, 10, 10), (3, 2, 5), (0, 2, 3)])
def test_bias_gradient(shape: tuple[int, ...]) -> None:
    check_parity("conv_bias_gradient", {"grad_output": integers(*shape)})


def test_bias_gradient_of_a_view() -> None:
    g = integers(6, 9, 5, 4)
    actual = kernels.conv_bias_gradient(to_device(g)[:, ::2, 1:])
    assert_array_equal(to_host(actual), in_reference("conv_bias_gradient", {"grad_output": g[:, ::2, 1:]})[0])

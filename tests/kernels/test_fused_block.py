"""Blocks on the CPU, whichever way lanes are used: what a convolution, relu and pooling give one after the other."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_conv_ways import forced

from cnn import kernels
from cnn.kernels.cpu import conv_channels, conv_images
from cnn.kernels.threads import set_num_threads

Array = np.ndarray[Any, Any]

# x (N, C, H, W), filters, kernel size, padding: LeNet-5's layers, batches that fill no vector, 3x3 from 16 channels on,
# rows of whole vectors, sizes that windows do not cover.
SHAPES = [
    ((64, 1, 28, 28), 6, 5, 2),
    ((17, 6, 14, 14), 16, 5, 0),
    ((1, 1, 28, 28), 6, 5, 2),
    ((3, 3, 13, 13), 8, 3, 1),
    ((5, 16, 15, 15), 32, 3, 1),
    ((32, 32, 16, 16), 32, 3, 1),
    ((16, 3, 32, 32), 32, 3, 1),
]
WINDOWS = [None, 2, (3, 2)]


def both_ways(shape: tuple[int, ...], filters: int, size: int, padding: int, window: Any) -> list[Array]:
    """y, argmax and the gradients of x, weight and bias, all of small integers."""
    rng = np.random.default_rng(3)

    def integers(*sizes: int) -> Array:
        return rng.integers(-2, 3, sizes).astype(np.float32)

    x, weight, bias = integers(*shape), integers(filters, shape[1], size, size), integers(filters)
    options: dict[str, Any] = {"padding": padding, "activation": "relu", "window": window}
    y, argmax = kernels.conv_block_forward(x, weight, bias, **options)
    grads = np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    given = {**options, "y": y, "argmax": argmax, "input_activation": "relu", "grad_around": integers(*shape)}
    grad_x = kernels.conv_block_backward(x, weight, integers(*y.shape), *grads, **given)
    return [array for array in (y, argmax, grad_x, *grads) if array is not None]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_is_the_reference(case: tuple[tuple[int, ...], int, int, int], window: Any) -> None:
    fused = both_ways(*case, window)
    with kernels.backend("reference"):
        expected = both_ways(*case, window)
    for ours, wanted in zip(fused, expected, strict=True):
        assert_array_equal(ours, wanted, strict=True)


@pytest.mark.parametrize("way", [conv_images, conv_channels], ids=["images", "channels"])
@pytest.mark.parametrize("window", [2, (3, 2)])
@pytest.mark.parametrize("case", SHAPES[:4], ids=str)
def test_pooled_ends_of_every_way(case: tuple[tuple[int, ...], int, int, int], window: Any, way: ModuleType) -> None:
    with forced(way):
        fused = both_ways(*case, window)
    with kernels.backend("reference"):
        expected = both_ways(*case, window)
    for ours, wanted in zip(fused, expected, strict=True):
        assert_array_equal(ours, wanted, strict=True)


@pytest.mark.usefixtures("threads_as_before")
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_threads_change_no_bit(case: tuple[tuple[int, ...], int, int, int]) -> None:
    shape, filters, size, padding = case
    rng = np.random.default_rng(4)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in (shape, (filters, shape[1], size, size)))
    bias, options = weight[:, 0, 0, 0].copy(), {"padding": padding, "activation": "relu", "window": 2}
    runs = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        y, argmax = kernels.conv_block_forward(x, weight, bias, **options)
        grads = np.empty_like(weight), np.empty_like(bias)
        grad_x = kernels.conv_block_backward(x, weight, y, *grads, **options, y=y, argmax=argmax)
        runs.append([array.tobytes() for array in (y, argmax, grad_x, *grads)])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("images", [1, 20])
def test_nan_wins_and_the_first_of_equals(images: int) -> None:
    # The filter leaves x as it is, and relu turns the first window into zeros, the last but one into a NaN.
    x = np.tile(
        np.array([[-1, -2, 3, 4], [-3, 0, 4, 1], [5, 1, 2, 2], [np.nan, 9, 2, 2]], np.float32), (images, 1, 1, 1)
    )
    weight = np.ones((1, 1, 1, 1), np.float32)
    y, argmax = kernels.conv_block_forward(x, weight, activation="relu", window=2)
    assert_array_equal(y, np.broadcast_to(np.array([[0, 4], [np.nan, 2]], np.float32), y.shape))
    assert_array_equal(argmax, np.broadcast_to(np.array([[0, 3], [12, 10]]), y.shape))


def test_a_gradient_passes_where_x_is_above_zero() -> None:
    x = np.tile(np.array([-1, 0, np.nan, 2], np.float32), (2, 1, 1))
    weight, grad_weight = np.full((1, 1, 1), 3, np.float32), np.empty((1, 1, 1), np.float32)
    grad_output = np.ones((2, 1, 4), np.float32)
    grad_x = kernels.conv_block_backward(x, weight, grad_output, grad_weight, input_activation="relu")
    assert_array_equal(grad_x, np.tile(np.array([0, 0, 0, 3], np.float32), (2, 1, 1)))

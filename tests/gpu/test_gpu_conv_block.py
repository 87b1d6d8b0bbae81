"""Convolutions with activation and pooling on a GPU: blocks of the built-in models, options, layouts, drawn ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from conv_parity import check_block
from hypothesis import given, settings
from numpy.testing import assert_array_equal
from parity import in_reference, integers, to_device, to_host

from cnn import kernels
from cnn.kernels.suites import SUITES

pytestmark = pytest.mark.gpu

LAYERS = {
    f"{name}.{layer.name}": layer
    for name in ("lenet5", "mnist-cnn", "cifar-cnn")
    for layer in SUITES[name].convolutions
}

POOLED = {"lenet5.0", "lenet5.3", "mnist-cnn.2", "cifar-cnn.2", "cifar-cnn.7"}

# Multiply-adds of a pass that the stand-in takes about a second for.
EMULATED = 2e7


@pytest.mark.parametrize("name", LAYERS)
def test_blocks_of_the_models(cupy: Any, name: str) -> None:
    layer, suite = LAYERS[name], SUITES[name.partition(".")[0]]
    images = suite.batch
    if hasattr(cupy, "vgpu"):
        images = int(np.clip(EMULATED // (np.prod(layer.weight) * np.prod(layer.conv(1).output)), 1, images))
    check_block((images, *layer.x), layer.weight, padding=layer.padding, window=2 if name in POOLED else None)


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "tiles filled to the last": ((2, 32, 8, 16), (64, 32, 3, 3), {"padding": 1}),
    "one more than a tile, odd sizes": ((3, 17, 7, 13), (65, 17, 3, 3), {"padding": 1}),
    "few, odd sizes": ((9, 6, 9, 7), (16, 6, 3, 3), {"padding": 1}),
    "few, dilated": ((9, 6, 9, 9), (15, 6, 3, 3), {"dilation": 2}),
    "wide filters in groups": ((2, 40, 9, 7), (70, 20, 3, 2), {"groups": 2, "mode": "convolution"}),
    "depthwise": ((3, 16, 9, 9), (16, 1, 3, 3), {"padding": 1, "groups": 16, "stride": 2}),
    "asymmetric": (
        (3, 20, 9, 9),
        (33, 20, 3, 2),
        {"padding": ((1, 0), (2, 1)), "stride": (2, 3), "dilation": (2, 1)},
    ),
    "no images": ((0, 10, 9, 9), (7, 10, 3, 3), {"padding": 1}),
    "other windows": ((2, 3, 9, 9), (7, 3, 3, 3), {"window": (3, 2)}),
    "one dimension": ((3, 10, 29), (7, 10, 4), {"padding": 3, "stride": 2}),
    "no window": ((3, 10, 9, 9), (7, 10, 4, 4), {"window": None, "padding": 1}),
    "two ways to x": ((3, 10, 9, 9), (7, 10, 3, 3), {"window": None, "padding": 1, "around": True}),
    "two ways to x, pooled": ((2, 6, 9, 9), (7, 6, 3, 3), {"window": 3, "input_activation": None, "around": True}),
    "inputs that no overlay meets": (
        (2, 1, 3, 7),
        (2, 1, 1, 2),
        {"stride": (2, 4), "padding": ((0, 0), (3, 2)), "dilation": (2, 3), "mode": "convolution"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_options_and_ends_of_tiles(case: str) -> None:
    x, weight, options = CASES[case]
    check_block(x, weight, **options)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", None])
@pytest.mark.parametrize("channels", [6, 20])
def test_reals_within_the_table(channels: int, activation: str | None) -> None:
    options: dict[str, Any] = {"activation": activation, "input_activation": activation}
    check_block((4, channels, 12, 12), (20, channels, 3, 3), length=1024, **options)


@given(conv_cases(2, widest=9))
@settings(max_examples=3)
def test_drawn_geometries(case: ConvCase) -> None:
    window = 2 if min(case.y_shape[2:]) >= 2 else None
    check_block(case.x_shape, case.weight_shape, window=window, **case.options)


@pytest.mark.parametrize("channels", [6, 20])
def test_the_first_nan_of_a_window_wins(channels: int) -> None:
    x, weight = integers(2, channels, 8, 8), integers(20, channels, 1, 1, seed=1)
    x[0, :, 3, 2:6] = np.nan
    x[1, :, 4, 4] = np.nan
    given = {"x": x, "weight": weight, "activation": "relu", "window": 2}
    expected, places = in_reference("conv_block_forward", given)
    assert np.isnan(expected).any()
    y, argmax = kernels.conv_block_forward(to_device(x), to_device(weight), activation="relu", window=2)
    assert_array_equal(to_host(y), expected)
    assert_array_equal(to_host(argmax), places)


def misaligned(cupy: Any, array: Any) -> Any:
    """Contiguous, beginning at no multiple of 16 bytes."""
    memory = cupy.empty(array.size + 1, array.dtype)
    memory[1:] = array.ravel()
    return memory[1:].reshape(array.shape)


def strided(cupy: Any, array: Any) -> Any:
    memory = cupy.empty((*array.shape, 2), array.dtype)
    memory[..., 1] = array
    return memory[..., 1]


@pytest.mark.parametrize("layout", [misaligned, strided, lambda cupy, array: cupy.asfortranarray(array)])
@pytest.mark.parametrize("channels", [2, 20])
def test_inputs_in_any_layout(cupy: Any, channels: int, layout: Any) -> None:
    x, weight, bias = integers(2, channels, 6, 5), integers(20, channels, 2, 2, seed=1), integers(20, seed=2)
    given = {"x": x, "weight": weight, "bias": bias, "activation": "relu", "window": 2}
    y, argmax = in_reference("conv_block_forward", given)
    on_gpu = {key: layout(cupy, to_device(value)) for key, value in given.items() if isinstance(value, np.ndarray)}
    found = kernels.conv_block_forward(**{**given, **on_gpu})
    assert_array_equal(to_host(found[0]), y)
    assert_array_equal(to_host(found[1]), argmax)
    del given["bias"]
    given |= {"grad_output": integers(*y.shape, seed=3), "y": y.astype(np.float32), "argmax": argmax.astype(np.int32)}
    fresh = {"grad_weight": np.full(weight.shape, np.nan, np.float32)}
    expected = in_reference("conv_block_backward", {**given, **fresh}, ("grad_weight",))
    on_gpu = {key: layout(cupy, to_device(value)) for key, value in given.items() if isinstance(value, np.ndarray)}
    grad_weight = misaligned(cupy, to_device(fresh["grad_weight"]))
    assert_array_equal(
        to_host(kernels.conv_block_backward(**{**given, **on_gpu}, grad_weight=grad_weight)), expected[0]
    )
    assert_array_equal(to_host(grad_weight), expected[1])

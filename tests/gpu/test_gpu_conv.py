"""Convolutions on a GPU: the layers of the built-in models, options, ends of tiles, drawn geometries, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from conv_parity import check_passes, check_passes_without_bias
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, on_device, to_device, to_host, uniform

from cnn import kernels
from cnn.kernels.suites import SUITES, Layer

pytestmark = pytest.mark.gpu

LAYERS = {
    f"{name}.{layer.name}": layer
    for name in ("lenet5", "mnist-cnn", "cifar-cnn")
    for layer in SUITES[name].convolutions
}
BATCHES = {"lenet5": 64, "mnist-cnn": 64, "cifar-cnn": 128}

# Multiply-adds of a pass that the stand-in takes about a second for.
EMULATED = 5e7


def batch_of(cupy: Any, name: str, layer: Layer) -> int:
    """The batch that the layer is trained with; on the stand-in one image at least, and as many as take a second."""
    batch = BATCHES[name.partition(".")[0]]
    if not hasattr(cupy, "vgpu"):
        return batch
    of_image = np.prod(layer.weight) * np.prod(layer.conv(1).output)
    return int(min(batch, max(EMULATED // of_image, 1)))


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_the_models(cupy: Any, name: str) -> None:
    layer = LAYERS[name]
    shape = batch_of(cupy, name, layer), *layer.x
    x, weight = integers(*shape), integers(*layer.weight, seed=1)
    given = {"x": x, "weight": weight, "bias": integers(layer.weight[0]), "padding": layer.padding}
    (y,) = check_parity("conv_forward", {**given, "activation": "relu"})
    g = integers(*y.shape, seed=2)
    given = {"grad_output": g, "weight": weight, "input_shape": shape, "padding": layer.padding}
    check_parity("conv_input_gradient", given)
    given = {"x": x, "grad_output": g, "weight_shape": weight.shape, "padding": layer.padding}
    for deterministic in (False, True):
        grad_bias = np.full(len(weight), np.nan, np.float32)
        given = {**given, "deterministic": deterministic, "grad_bias": grad_bias}
        check_parity("conv_kernel_gradient", given, "grad_bias")


@pytest.mark.parametrize("name", ["lenet5.0", "lenet5.3"])
def test_reals_within_the_table(name: str) -> None:
    layer = LAYERS[name]
    x, weight, bias = uniform(4, *layer.x), uniform(*layer.weight, seed=1), uniform(layer.weight[0])
    given = {"x": x, "weight": weight, "padding": layer.padding}
    terms = int(np.prod(layer.weight[1:]))
    for activation in (None, "relu", "sigmoid", "tanh"):
        (y,) = check_parity("conv_forward", {**given, "bias": bias, "activation": activation}, length=terms)
    g = uniform(*y.shape, seed=2)
    given = {"grad_output": g, "weight": weight, "input_shape": x.shape, "padding": layer.padding}
    check_parity("conv_input_gradient", given, length=25 * len(weight))
    given = {"x": x, "grad_output": g, "weight_shape": weight.shape, "padding": layer.padding}
    check_parity("conv_kernel_gradient", given, length=4096)


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "tiles filled to the last": ((2, 16, 8, 16), (64, 16, 3, 3), {"padding": 1}),
    "one more than a tile": ((1, 9, 5, 13), (65, 9, 3, 3), {"padding": 1}),
    "one less than a tile": ((1, 7, 9, 7), (31, 7, 3, 3), {"padding": 1}),
    "wide filters in groups": ((2, 20, 9, 7), (70, 10, 3, 2), {"groups": 2, "mode": "convolution"}),
    "depthwise": ((3, 16, 9, 9), (16, 1, 3, 3), {"padding": 1, "groups": 16, "stride": 2}),
    "asymmetric": (
        (3, 10, 9, 7),
        (33, 10, 3, 2),
        {"padding": ((1, 0), (2, 1)), "stride": (2, 3), "dilation": (2, 1)},
    ),
    "stride beyond the kernel": ((2, 32, 8, 8), (64, 32, 1, 1), {"stride": 2}),
    "one dimension": ((3, 10, 29), (7, 10, 4), {"padding": 3, "stride": 2}),
    "no images": ((0, 10, 9, 9), (7, 10, 3, 3), {"padding": 1}),
    "no images, thin": ((0, 1, 9), (7, 1, 3), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_options_and_ends_of_tiles(case: str) -> None:
    x, weight, options = CASES[case]
    check_passes(x, weight, **options)


@pytest.mark.parametrize("channels", [1, 9])
def test_without_bias(channels: int) -> None:
    check_passes_without_bias(channels)


@given(st.integers(1, 2).flatmap(lambda dimensions: conv_cases(dimensions, widest=9)), st.integers(0, 9))
@settings(max_examples=3)
def test_drawn_geometries(case: ConvCase, seed: int) -> None:
    x, weight, g = case.integers(seed)
    check_parity("conv_forward", {"x": x, "weight": weight, **case.options})
    check_parity("conv_input_gradient", {"grad_output": g, "weight": weight, "input_shape": x.shape, **case.options})
    check_parity("conv_kernel_gradient", {"x": x, "grad_output": g, "weight_shape": weight.shape, **case.options})


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
@pytest.mark.parametrize("channels", [2, 9])
def test_inputs_and_out_in_any_layout(cupy: Any, channels: int, layout: Any) -> None:
    x, weight, bias = integers(2, channels, 6, 5), integers(5, channels, 2, 2, seed=1), integers(5, seed=2)
    g = integers(2, 5, 5, 4, seed=3)
    calls: dict[str, dict[str, Any]] = {
        "conv_forward": {"x": x, "weight": weight, "bias": bias},
        "conv_input_gradient": {"grad_output": g, "weight": weight, "input_shape": x.shape},
        "conv_kernel_gradient": {"x": x, "grad_output": g, "weight_shape": weight.shape},
    }
    for name, arguments in calls.items():
        (expected,) = in_reference(name, arguments)
        on_gpu = {
            key: layout(cupy, to_device(value)) if isinstance(value, np.ndarray) else value
            for key, value in arguments.items()
        }
        before = {key: to_host(value) for key, value in on_gpu.items() if isinstance(value, cupy.ndarray)}
        out = layout(cupy, cupy.full(expected.shape, np.nan, np.float32))
        assert getattr(kernels, name)(**on_gpu, out=out) is out
        assert_array_equal(to_host(out), expected)
        for key, value in before.items():
            assert_array_equal(to_host(on_gpu[key]), value)


def test_deterministic_twice_the_same_bits() -> None:
    given = {"x": uniform(16, 3, 20, 20), "grad_output": uniform(16, 8, 18, 18, seed=1), "weight_shape": (8, 3, 3, 3)}
    first, second = (on_device("conv_kernel_gradient", {**given, "deterministic": True})[0] for _ in range(2))
    assert_array_equal(first, second)

"""Every convolution pass of three networks, emulated: equal to the reference, with no finding, and well counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import integers

from cnn import kernels
from cnn.kernels.suites import SUITES, Layer

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import conv_direct, conv_product
from cnn.kernels.cuda.codegen import estimate
from cnn.kernels.cuda.codegen.estimate import Call, Estimate, estimates_of

Array = np.ndarray[Any, Any]

NETWORKS = ("lenet5", "mnist-cnn", "cifar-cnn")
LAYERS = {f"{name}.{layer.name}": layer for name in NETWORKS for layer in SUITES[name].convolutions}

# Multiply-adds of a pass that the emulator takes about a second for, with all of its checks.
EMULATED = 2e7

PASSES = ("forward", "input gradient", "kernel gradient", "deterministic kernel gradient")


@pytest.fixture(autouse=True)
def _tiles_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # Fewer images are emulated, with the kernels of a training step.
    chosen, is_small = conv_product.choose_tile, conv_direct.is_small
    monkeypatch.setattr(conv_product, "choose_tile", lambda phase, _images: chosen(phase, 128))
    monkeypatch.setattr(conv_direct, "is_small", lambda phase, _images: is_small(phase, 64))


def images_of(layer: Layer, whole: int) -> int:
    """As many as take a second, but more than one, for the ends of an image; `whole` at most."""
    of_image = np.prod(layer.weight) * np.prod(layer.conv(1).output)
    return int(np.clip(EMULATED // of_image, 2, whole))


def calls_and_results(layer: Layer, purpose: str, images: int) -> tuple[list[Call], list[tuple[Array, Array]]]:
    """The launches of one pass, and pairs of what they write and what should be there then."""
    geometry = layer.conv(images)
    x, weight, bias = integers(*geometry.x_shape), integers(*layer.weight, seed=1), integers(geometry.filters)
    g, padding = integers(*geometry.y_shape, seed=2), layer.padding
    with kernels.backend("reference"):
        if purpose == "forward":
            y = np.full(geometry.y_shape, np.nan, np.float32)
            calls = estimate.forward_calls(geometry, x, weight, bias, y)
            return calls, [(y, kernels.conv_forward(x, weight, bias, padding=padding))]
        if purpose == "input gradient":
            grad_x = np.full(geometry.x_shape, np.nan, np.float32)
            calls = estimate.input_gradient_calls(geometry, g, weight, grad_x)
            return calls, [(grad_x, kernels.conv_input_gradient(g, weight, geometry.x_shape, padding=padding))]
        deterministic = purpose.startswith("deterministic")
        start = np.nan if deterministic else 0  # what is added to must be zero
        grad_weight, grad_bias = (np.full(shape, start, np.float32) for shape in (layer.weight, geometry.filters))
        calls = estimate.kernel_gradient_calls(geometry, x, g, grad_weight, grad_bias, deterministic)
        expected = kernels.conv_kernel_gradient(x, g, layer.weight, padding=padding)
        return calls, [(grad_weight, expected), (grad_bias, kernels.conv_bias_gradient(g))]


@pytest.mark.parametrize("purpose", PASSES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_pass_is_right(name: str, purpose: str) -> None:
    layer = LAYERS[name]
    calls, results = calls_and_results(layer, purpose, images_of(layer, SUITES[name.partition(".")[0]].batch))
    for launch, arguments in calls:
        # A finding of the memory, initialisation and race checks raises.
        report = estimate.run(launch, arguments, check=True, warp_order="reverse")  # tests/gpu goes forward
        assert not report.errors
    for written, expected in results:
        assert_array_equal(written, expected)


@cache
def estimates(name: str) -> tuple[Estimate, ...]:
    return tuple(estimates_of(name))


def passes_of(name: str, wanted: Callable[[Layer], bool]) -> Iterator[tuple[Layer, Estimate]]:
    for found in estimates(name):
        layer = LAYERS[found.layer]
        if wanted(layer):
            yield layer, found


def is_wide(layer: Layer) -> bool:
    filters, *terms = layer.weight
    return filters >= 32 and np.prod(terms) >= 144


@pytest.mark.parametrize("name", NETWORKS)
def test_shared_memory_has_no_bank_conflicts(name: str) -> None:
    found = estimates(name)
    assert len(found) == 3 * len(SUITES[name].convolutions) - 1
    for each in found:
        assert 1 <= each.wavefronts <= 1.05, each


@pytest.mark.parametrize("name", ["mnist-cnn", "cifar-cnn"])
def test_global_memory_is_read_in_whole_sectors(name: str) -> None:
    found = list(passes_of(name, is_wide))
    assert found
    for _, each in found:
        assert 1 <= each.sectors <= 1.5, each


def test_estimates_come_near_the_lower_bound() -> None:
    for layer, each in passes_of("cifar-cnn", lambda _layer: True):
        assert 1 <= each.ratio <= (1.6 if layer.x[0] >= 32 else 2.0), each


def test_the_lower_bound_counts_what_overlays_meet() -> None:
    # 2 * 128 * 32^2 * 32 * 32 * 3 * 3 operations; 4 bytes for each number of a step over every other pixel.
    wide = SUITES["cifar-cnn"].convolutions[1]
    assert estimate.lower_bound(wide.conv(128)) == pytest.approx(2 * 128 * 1024 * 32 * 32 * 9 / 59.3e12)
    narrow = Layer("", "conv", (1, 8, 6), (1, 1, 1, 1), stride=2)
    assert estimate.lower_bound(narrow.conv(10)) == pytest.approx(4 * (10 * 4 * 3 + 10 * 4 * 3 + 1) / 3.35e12)


def test_what_is_found_is_reported() -> None:
    # That the checks are on: an output that is too small is written past its end.
    layer = LAYERS["lenet5.0"]
    calls, _ = calls_and_results(layer, "forward", 2)
    launch, arguments = calls[0]
    smaller = tuple(array[:1].copy() if np.ndim(array) == 4 and np.isnan(array).all() else array for array in arguments)
    with pytest.raises(Exception, match="oob-global"):
        estimate.run(launch, smaller, check=True)

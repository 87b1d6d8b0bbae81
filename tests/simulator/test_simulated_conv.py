"""Convolutions in the simulator: every kernel, every option, tiles of both kinds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import ConvCase, conv_cases
from conv_parity import check_passes, check_passes_without_bias
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from parity import check_parity, in_reference, integers, on_device, uniform

from cnn import kernels

pytest.importorskip("numba_cuda", reason="needs numba-cuda's simulator: pip install numba-cuda")

from cnn.kernels.cuda import conv_direct, conv_kernel_gradient, conv_product

# More channels in a group than the direct kernel takes.
WIDE = conv_direct.THIN + 1

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "thin": ((1, 2, 5, 5), (3, 2, 3, 3), {"padding": 1}),
    "thin, true convolution": ((2, 1, 4, 5), (2, 1, 2, 3), {"mode": "convolution"}),
    "thin, more filters than a pass": ((1, 1, 3, 3), (17, 1, 2, 2), {}),
    "depthwise": ((2, 3, 5, 4), (3, 1, 3, 3), {"padding": 1, "groups": 3, "stride": 2}),
    "depthwise, two filters a channel": ((1, 2, 4, 4), (4, 1, 2, 2), {"groups": 2, "dilation": 2}),
    "wide": ((1, WIDE, 4, 4), (6, WIDE, 3, 3), {"padding": 1}),
    "wide, 1 x 1": ((2, 8, 3, 3), (4, 8, 1, 1), {}),
    "wide, true convolution": ((1, 6, 4, 3), (5, 6, 2, 3), {"mode": "convolution", "padding": 1}),
    "wide, two tiles of filters": ((1, WIDE, 3, 3), (17, WIDE, 2, 2), {}),
    "wide, groups": ((2, 2 * WIDE, 4, 3), (6, WIDE, 2, 2), {"groups": 2, "stride": (2, 1)}),
    "stride 2": ((1, WIDE, 6, 5), (6, WIDE, 3, 3), {"stride": 2, "padding": 1}),
    "stride beyond the kernel": ((1, 2, 7, 6), (2, 2, 2, 1), {"stride": 3}),
    "asymmetric": (
        (1, WIDE, 5, 4),
        (6, WIDE, 3, 2),
        {"padding": ((1, 0), (2, 3)), "stride": (2, 3), "dilation": (2, 1)},
    ),
    "padding beyond the kernel": ((1, 1, 2, 2), (1, 1, 1, 1), {"padding": 3}),
    "same": ((1, 3, 5, 4), (2, 3, 2, 2), {"padding": "same", "stride": 2}),
    "many overlays": ((5, 1, 6, 6), (2, 1, 2, 2), {}),
    "one dimension": ((2, WIDE, 9), (6, WIDE, 3), {"stride": 2, "padding": ((2, 1),)}),
    "one dimension, thin": ((2, 1, 9), (3, 1, 4), {"dilation": 2, "mode": "convolution"}),
    "no images": ((0, WIDE, 4, 4), (6, WIDE, 3, 3), {"padding": 1}),
    "no images, thin": ((0, 1, 4, 4), (2, 1, 3, 3), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_passes(case: str) -> None:
    x, weight, options = CASES[case]
    check_passes(x, weight, **options)


@pytest.mark.parametrize("channels", [1, WIDE])
def test_without_bias(channels: int) -> None:
    check_passes_without_bias(channels)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("channels", [1, WIDE])
def test_activations(channels: int, activation: str) -> None:
    arrays = {"x": uniform(1, channels, 3, 4), "weight": uniform(3, channels, 2, 2), "bias": uniform(3)}
    check_parity("conv_forward", {**arrays, "activation": activation}, length=64)


def test_tiles_of_8_by_8_sums_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    product, gradient = conv_product.Tile(32, 64, 8, 8), conv_kernel_gradient.Tile(32, 64, 8, 8)
    monkeypatch.setattr(conv_product, "choose_tile", lambda _phase, _images: product)
    monkeypatch.setattr(conv_kernel_gradient, "choose_tile", lambda _phase, _images: gradient)
    x, weight, g = integers(1, 9, 4, 4), integers(33, 9, 2, 2, seed=1), integers(1, 33, 3, 3, seed=2)
    check_parity("conv_forward", {"x": x, "weight": weight, "bias": integers(33)})
    check_parity("conv_input_gradient", {"grad_output": g, "weight": weight, "input_shape": x.shape})
    for deterministic in (False, True):
        given = {"x": x, "grad_output": g, "weight_shape": weight.shape, "deterministic": deterministic}
        check_parity("conv_kernel_gradient", {**given, "grad_bias": np.full(33, np.nan, np.float32)}, "grad_bias")


@pytest.mark.parametrize("sources", [4, 8, 16, 24])
def test_columns_of_the_kernel_gradient_that_share_a_tap(sources: int) -> None:
    # From four to all of the columns that a thread loads: the tile has 32, of which it loads 16 at a time.
    given = {"x": integers(1, sources, 4, 4), "grad_output": integers(1, 3, 4, 4, seed=1)}
    for mode in ("cross-correlation", "convolution"):
        options = {"weight_shape": (3, sources, 3, 3), "padding": 1, "mode": mode}
        check_parity("conv_kernel_gradient", {**given, **options})


def test_deterministic_twice_the_same_bits() -> None:
    # Enough overlays for two runs, which two blocks add up.
    arrays = {"x": uniform(1, 2, 130), "grad_output": uniform(1, 3, 129, seed=1)}
    given = {**arrays, "weight_shape": (3, 2, 2), "deterministic": True}
    first, second = check_parity("conv_kernel_gradient", given, length=256), on_device("conv_kernel_gradient", given)
    assert_array_equal(first, second)


@given(st.integers(1, 2).flatmap(lambda dimensions: conv_cases(dimensions, widest=6)), st.integers(0, 9))
@settings(max_examples=4)
def test_drawn_geometries(case: ConvCase, seed: int) -> None:
    x, weight, g = case.integers(seed)
    check_parity("conv_forward", {"x": x, "weight": weight, **case.options})
    check_parity("conv_input_gradient", {"grad_output": g, "weight": weight, "input_shape": x.shape, **case.options})
    check_parity("conv_kernel_gradient", {"x": x, "grad_output": g, "weight_shape": weight.shape, **case.options})


@pytest.mark.parametrize("channels", [2, WIDE])
def test_inputs_in_any_layout(channels: int) -> None:
    wide = integers(2, channels, 5, 8)
    x, weight = wide[:, ::-1, :, ::2], np.asfortranarray(integers(3, channels, 2, 2))
    g = integers(2, 3, 3, 4, seed=1).transpose(0, 1, 3, 2)
    with kernels.backend("cuda"):
        y = kernels.conv_forward(x, weight, wide.ravel()[1:7:2])
        grad_x = kernels.conv_input_gradient(g, weight, x.shape)
        grad_weight = kernels.conv_kernel_gradient(x, g, weight.shape)
    assert_array_equal(y, in_reference("conv_forward", {"x": x, "weight": weight, "bias": wide.ravel()[1:7:2]})[0])
    given = {"grad_output": g, "weight": weight, "input_shape": x.shape}
    assert_array_equal(grad_x, in_reference("conv_input_gradient", given)[0])
    given = {"x": x, "grad_output": g, "weight_shape": weight.shape}
    assert_array_equal(grad_weight, in_reference("conv_kernel_gradient", given)[0])


@pytest.mark.parametrize("channels", [2, WIDE])
def test_out_is_overwritten_and_never_read(channels: int) -> None:
    x, weight, g = integers(1, channels, 4, 4), integers(3, channels, 2, 2, seed=1), integers(1, 3, 3, 3, seed=2)
    calls = {
        "conv_forward": {"x": x, "weight": weight},
        "conv_input_gradient": {"grad_output": g, "weight": weight, "input_shape": x.shape},
        "conv_kernel_gradient": {"x": x, "grad_output": g, "weight_shape": weight.shape},
    }
    for name, arguments in calls.items():
        (expected,) = in_reference(name, arguments)
        for strided in (False, True):
            out = np.full((*expected.shape, 2), np.nan, np.float32)[..., 0]
            out = out if strided else out.copy()
            with kernels.backend("cuda"):
                assert getattr(kernels, name)(**arguments, out=out) is out
            assert_array_equal(out, expected)


def test_three_dimensions_are_refused() -> None:
    with kernels.backend("cuda"), pytest.raises(kernels.ShapeError, match="one and two dimensions, got 3"):
        kernels.conv_forward(integers(1, 1, 2, 2, 2), integers(1, 1, 1, 1, 1))


def test_more_elements_than_32_bits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn.kernels.cuda.conv_phase.LARGEST_ARRAY", 31)
    x, weight = integers(1, 2, 4, 4), integers(1, 2, 1, 1)
    with kernels.backend("cuda"), pytest.raises(kernels.ShapeError, match=r"up to 31 elements, got \(1, 2, 4, 4\)"):
        kernels.conv_forward(x, weight)

"""Convolutions with activation and pooling in the simulator: what is fused, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_parity import check_block
from numpy.testing import assert_array_equal
from parity import in_reference, integers, on_device

pytest.importorskip("numba_cuda", reason="needs numba-cuda's simulator: pip install numba-cuda")

from cnn.kernels.cuda import conv_direct, conv_kernel_gradient, conv_product

# More channels, or targets, than the direct kernel takes.
WIDE = conv_direct.FEW + 1

CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "thin": ((2, 1, 6, 6), (3, 1, 3, 3), {"padding": 1}),
    "thin, odd sizes": ((2, 2, 6, 8), (3, 2, 2, 4), {}),
    "few": ((2, 6, 6, 6), (5, 6, 3, 3), {"padding": 1}),
    "few, odd sizes": ((1, 5, 8, 6), (6, 5, 2, 2), {"padding": ((2, 1), (0, 0))}),
    "few, strides": ((1, 5, 9, 8), (6, 5, 3, 3), {"stride": (2, 1), "padding": 1}),
    "few, dilated": ((1, 5, 8, 7), (6, 5, 2, 2), {"dilation": 2}),
    "few, true convolution": ((1, 5, 5, 6), (6, 5, 2, 3), {"mode": "convolution"}),
    "wide": ((1, WIDE, 4, 6), (WIDE, WIDE, 3, 3), {"padding": 1}),
    "wide, odd sizes": ((1, WIDE, 5, 3), (WIDE, WIDE, 1, 1), {}),
    "wide, strides": ((1, WIDE, 6, 5), (WIDE, WIDE, 2, 2), {"stride": 2, "padding": 1}),
    "groups": ((1, 6, 5, 4), (4, 3, 2, 2), {"groups": 2, "padding": 1}),
    "depthwise, strides": ((2, 3, 9, 8), (3, 1, 3, 3), {"padding": 1, "groups": 3, "stride": 2}),
    "no images": ((0, 6, 6, 6), (5, 6, 3, 3), {}),
    "other windows": ((1, 2, 8, 8), (3, 2, 3, 3), {"window": 3}),
    "one dimension": ((1, 2, 9), (3, 2, 2), {}),
    "no window": ((2, 6, 4, 4), (5, 6, 3, 3), {"window": None}),
    "no window, wide, strides": ((1, WIDE, 5, 5), (WIDE, WIDE, 2, 2), {"window": None, "stride": 2}),
    "two ways to x": ((1, 6, 4, 5), (5, 6, 3, 3), {"window": None, "padding": 1, "around": True}),
    "two ways to x, pooled": ((1, 2, 6, 6), (3, 2, 3, 3), {"window": 3, "input_activation": None, "around": True}),
    "bare": ((1, 2, 5, 4), (3, 2, 2, 2), {"activation": None, "input_activation": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways(case: str) -> None:
    x, weight, options = CASES[case]
    check_block(x, weight, **options)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize("channels", [2, WIDE])
def test_smooth_activations(channels: int, activation: str) -> None:
    options: dict[str, Any] = {"activation": activation, "input_activation": activation}
    check_block((1, channels, 5, 4), (channels, channels, 2, 2), length=4 * channels, **options)


def test_tiles_of_8_by_8_sums_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    product, gradient = conv_product.Tile(32, 64, 8, 8), conv_kernel_gradient.Tile(32, 64, 16, 8)
    monkeypatch.setattr(conv_product, "choose_tile", lambda _phase, _images: product)
    monkeypatch.setattr(conv_kernel_gradient, "choose_tile", lambda _phase, _images: gradient)
    check_block((1, 33, 4, 6), (33, 33, 2, 2), padding=1)


def test_gradients_that_are_zero_already_are_not_cleared() -> None:
    x, weight, g = integers(1, 2, 5, 5), integers(3, 2, 2, 2, seed=1), integers(1, 3, 2, 2, seed=2)
    _, argmax = in_reference("conv_block_forward", {"x": x, "weight": weight, "window": 2})
    given = {"x": x, "weight": weight, "grad_output": g, "window": 2, "argmax": argmax}
    zero, one = ({"grad_weight": np.full(weight.shape, value, np.float32)} for value in (0, 1))
    grad_x, grad_weight = on_device("conv_block_backward", {**given, **zero, "zeroed": True}, ("grad_weight",))
    # What stood there shows that nothing was cleared.
    _, more = on_device("conv_block_backward", {**given, **one, "zeroed": True}, ("grad_weight",))
    expected = in_reference("conv_block_backward", {**given, **zero}, ("grad_weight",))
    assert_array_equal(grad_x, expected[0])
    assert_array_equal(grad_weight, expected[1])
    assert_array_equal(more, expected[1] + 1)

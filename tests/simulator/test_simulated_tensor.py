"""The kernels on tensor cores in the simulator, where a warp's product is computed in Python: one of each."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import integers

from cnn import kernels
from cnn.kernels import ConvGeometry

pytest.importorskip("numba_cuda", reason="needs numba-cuda's simulator: pip install numba-cuda")

from cnn.kernels.cuda import (
    conv_forward,
    conv_kernel_gradient,
    conv_tensor,
    conv_tensor_gradient,
    conv_tensor_pack,
    conv_tensor_tile,
)
from cnn.kernels.cuda.conv_phase import forward_phase
from cnn.kernels.cuda.launch import run

# Of channels more than two steps: what is in shared memory is replaced.
SHAPES = {"tf32": ((1, 33, 5, 6), (32, 33, 2, 2)), "bf16": ((2, 32, 4, 8), (32, 32, 1, 3))}


@pytest.mark.parametrize("precision", SHAPES)
def test_forward(precision: str) -> None:
    x_shape, weight_shape = SHAPES[precision]
    geometry = ConvGeometry.of("forward", x_shape, weight_shape, padding=1)
    x, weight, bias = integers(*x_shape), integers(*weight_shape, seed=1), integers(32, seed=2)
    phase = forward_phase(geometry, True, "relu")
    assert conv_tensor_tile.serves(phase, precision)
    tile = conv_tensor_tile.choose_tile(phase, geometry.batch, precision)
    pack, words = conv_tensor_pack.plan(phase, precision, tile.rows, 32)
    plan = conv_forward.Plan(conv_tensor.plan(phase, geometry.batch, precision, tile), pack, words)
    y = np.full(geometry.y_shape, np.nan, np.float32)
    run(conv_forward.calls(plan, geometry.batch, x, weight, y, bias=bias))
    with kernels.backend("reference"):
        assert_array_equal(y, kernels.conv_forward(x, weight, bias, padding=1, activation="relu"))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("precision", SHAPES)
def test_kernel_gradient(precision: str, deterministic: bool) -> None:
    x_shape, weight_shape = SHAPES[precision]
    geometry = ConvGeometry.of("kernel gradient", x_shape, weight_shape, padding=1)
    x, g = integers(*x_shape), integers(*geometry.y_shape, seed=1)
    phase = forward_phase(geometry, True, None)
    assert conv_tensor_gradient.serves(phase)
    plan = conv_tensor_gradient.plan(phase, geometry.batch, precision, deterministic)
    grad_weight, grad_bias = np.full(weight_shape, np.nan, np.float32), np.full(32, np.nan, np.float32)
    conv_kernel_gradient.clear(plan, grad_weight, grad_bias)
    run(conv_kernel_gradient.calls(plan, geometry.batch, x, g, grad_weight, grad_bias))
    with kernels.backend("reference"):
        assert_array_equal(grad_weight, kernels.conv_kernel_gradient(x, g, weight_shape, padding=1))
        assert_array_equal(grad_bias, kernels.conv_bias_gradient(g))

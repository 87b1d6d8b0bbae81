"""The kernels on tensor cores in the simulator, where a warp's product is computed in Python: one of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from parity import check_parity, integers, uniform

from cnn import kernels
from cnn.kernels import ConvGeometry

pytest.importorskip("numba_cuda", reason="needs numba-cuda's simulator: pip install numba-cuda")

from cnn.kernels.cuda import conv_tensor_gradient, conv_tensor_tile
from cnn.kernels.cuda.conv_phase import forward_phase

# Of channels more than two steps: what is in shared memory is replaced. Of overlays more rectangles than runs.
SHAPES = {"tf32": ((3, 33, 5, 6), (32, 33, 2, 2)), "bf16": ((4, 32, 4, 8), (32, 32, 1, 3))}


@pytest.mark.parametrize("precision", SHAPES)
def test_forward(precision: str) -> None:
    x_shape, weight_shape = SHAPES[precision]
    geometry = ConvGeometry.of("forward", x_shape, weight_shape, padding=1)
    assert conv_tensor_tile.serves(forward_phase(geometry, True, "relu"), precision)
    given: dict[str, Any] = {"x": integers(*x_shape), "weight": integers(*weight_shape, seed=1), "padding": 1}
    given |= {"bias": integers(32, seed=2), "activation": "relu", "precision": precision}
    check_parity("conv_forward", given)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("precision", SHAPES)
def test_kernel_gradient(precision: str, deterministic: bool) -> None:
    x_shape, weight_shape = SHAPES[precision]
    geometry = ConvGeometry.of("kernel gradient", x_shape, weight_shape, padding=1)
    assert conv_tensor_gradient.serves(forward_phase(geometry, True, None))
    g, grad_bias = integers(*geometry.y_shape, seed=1), np.full(32, np.nan, np.float32)
    given = {"x": integers(*x_shape), "grad_output": g, "weight_shape": weight_shape, "grad_bias": grad_bias}
    options = {"padding": 1, "deterministic": deterministic, "precision": precision}
    check_parity("conv_kernel_gradient", {**given, **options}, "grad_bias")


@pytest.mark.parametrize("precision", SHAPES)
def test_factors_are_rounded_as_in_the_reference(precision: str) -> None:
    x, weight = uniform(1, 32, 2, 3), uniform(32, 32, 1, 1, seed=1)
    found = {}
    for backend in ("cuda", "reference"):
        with kernels.backend(backend):
            found[backend] = kernels.conv_forward(x, weight, precision=precision)
    error, size = (np.linalg.norm(array) for array in (found["cuda"] - found["reference"], found["reference"]))
    assert error < 1e-6 * size

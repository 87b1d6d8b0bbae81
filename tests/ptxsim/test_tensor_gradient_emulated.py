"""The kernel gradient on tensor cores, emulated, against the reference and its rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from parity import integers, uniform

from cnn import kernels
from cnn.kernels import ConvGeometry
from cnn.kernels.reference.rounding import rounded
from cnn.kernels.suites import SUITES

pytest.importorskip("numba_cuda", reason="needs numba-cuda: pip install 'numba-cnn[cu13]'")

from cnn.kernels.cuda import conv_kernel_gradient, conv_tensor_gradient
from cnn.kernels.cuda.codegen import estimate
from cnn.kernels.cuda.conv_phase import ConvPhase, forward_phase

Array = np.ndarray[Any, Any]

# As in test_tensor_emulated.
EXACT = {"tf32": 1e-3, "bf16": 1e-2}
SUMS = 1e-6


def kernel_gradient(
    phase: ConvPhase, images: int, precision: str, x: Array, g: Array, deterministic: bool
) -> tuple[Array, Array]:
    """grad_weight (groups, targets, sources, *taps) and grad_bias."""
    assert conv_tensor_gradient.serves(phase)
    plan = conv_tensor_gradient.plan(phase, images, precision, deterministic)
    start = np.nan if deterministic else 0  # what is added to must be zero
    weight_shape = phase.groups * phase.targets, phase.sources, *phase.kernel
    grad_weight, grad_bias = (np.full(shape, start, np.float32) for shape in (weight_shape, weight_shape[0]))
    for launch, arguments in conv_kernel_gradient.calls(plan, images, x, g, grad_weight, grad_bias):
        if 0 in launch.grid:
            continue
        # A finding of the memory, initialisation and race checks raises.
        assert not estimate.run(launch, arguments, check=True, warp_order="reverse").errors
    return grad_weight, grad_bias


def relative_error(actual: Array, expected: Array) -> float:
    """In the Frobenius norm."""
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("number", [1, 3])  # 32 to 32 filters at 32 x 32, and 64 to 64 at 16 x 16
def test_layers_of_the_cifar_network(number: int, precision: str) -> None:
    layer = SUITES["cifar-cnn"].convolutions[number]
    geometry = layer.conv(3)
    x, g = uniform(*geometry.x_shape), uniform(*geometry.y_shape, seed=1)
    grad_weight, grad_bias = kernel_gradient(forward_phase(geometry, True, None), 3, precision, x, g, False)
    options = {"padding": layer.padding}
    with kernels.backend("reference"):
        exact = kernels.conv_kernel_gradient(x.astype(np.float64), g.astype(np.float64), layer.weight, **options)
        near = [rounded(array, precision).astype(np.float64) for array in (x, g)]
        expected = kernels.conv_kernel_gradient(*near, layer.weight, **options)
    assert relative_error(grad_weight, expected) < SUMS < relative_error(grad_weight, exact) < EXACT[precision]
    # Not rounded: sums of float32.
    assert relative_error(grad_bias, g.astype(np.float64).sum((0, 2, 3))) < SUMS


# name: (precision, x, weight, options)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "odd sizes": ("bf16", (3, 35, 9, 13), (33, 35, 3, 2), {"padding": ((2, 1), (0, 1))}),
    "few channels": ("tf32", (2, 17, 6, 8), (70, 17, 3, 3), {"padding": 1}),
    "rows of taps": ("tf32", (2, 32, 10, 9), (32, 32, 5, 5), {"padding": 2}),
    "dilated rows of taps": ("bf16", (2, 32, 12, 12), (32, 32, 4, 3), {"padding": 2, "dilation": (3, 1)}),
    "groups": ("bf16", (2, 64, 7, 7), (64, 32, 3, 3), {"padding": 1, "groups": 2}),
    "true convolution": ("tf32", (2, 32, 8, 8), (64, 32, 2, 3), {"mode": "convolution"}),
    "one dimension": ("bf16", (3, 32, 20), (32, 32, 3), {"padding": 1}),
    "no images": ("bf16", (0, 32, 8, 8), (32, 32, 3, 3), {}),
}


@pytest.mark.parametrize(
    ("case", "deterministic"),
    [*((case, False) for case in CASES), *((case, True) for case in ("few channels", "groups", "rows of taps"))],
)
def test_geometries(case: str, deterministic: bool) -> None:
    precision, x_shape, weight_shape, options = CASES[case]
    geometry = ConvGeometry.of(case, x_shape, weight_shape, **options)
    x, g = integers(*x_shape), integers(*geometry.y_shape, seed=1)
    phase = forward_phase(geometry, True, None)
    grad_weight, grad_bias = kernel_gradient(phase, x_shape[0], precision, x, g, deterministic)
    with kernels.backend("reference"):
        assert_array_equal(
            grad_weight.reshape(weight_shape), kernels.conv_kernel_gradient(x, g, weight_shape, **options)
        )
        assert_array_equal(grad_bias, kernels.conv_bias_gradient(g))


def test_other_layers_are_left_to_other_kernels() -> None:
    def served(weight: tuple[int, ...], **options: Any) -> bool:
        geometry = ConvGeometry.of("rule", (1, weight[1], 32, 32), weight, **options)
        return conv_tensor_gradient.serves(forward_phase(geometry, False, None))

    assert served((32, 16, 3, 3))
    assert not served((32, 15, 3, 3))
    assert not served((31, 16, 3, 3))
    assert served((32, 32, 7, 7))
    assert not served((32, 32, 1, 1))
    assert not served((32, 32, 10, 10))
    assert not served((32, 32, 3, 3), stride=2)
    assert not served((32, 32, 3, 3), dilation=2)

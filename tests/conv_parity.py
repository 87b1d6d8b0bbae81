"""All passes of a convolution on the device and in the reference: equal on small integers, whatever is added first."""

from __future__ import annotations

from typing import Any

import numpy as np
from parity import check_parity, integers

from cnn.kernels import ConvGeometry


def check_passes(x: tuple[int, ...], weight: tuple[int, ...], **options: Any) -> None:
    """Forward with bias and ReLU, input gradient, and the kernel gradient with the bias's in both ways.

    x, weight: shapes.
    """
    arrays = {"x": integers(*x), "weight": integers(*weight, seed=1)}
    check_parity("conv_forward", {**arrays, "bias": integers(weight[0], seed=2), "activation": "relu", **options})
    g = integers(*ConvGeometry.of("test", x, weight, **options).y_shape, seed=3)
    check_parity("conv_input_gradient", {"grad_output": g, "weight": arrays["weight"], "input_shape": x, **options})
    given = {"x": arrays["x"], "grad_output": g, "weight_shape": weight, **options}
    for deterministic in (False, True):
        grad_bias = np.full(weight[0], np.nan, np.float32)
        check_parity(
            "conv_kernel_gradient", {**given, "deterministic": deterministic, "grad_bias": grad_bias}, "grad_bias"
        )


def check_passes_without_bias(channels: int) -> None:
    x, weight, g = integers(2, channels, 5, 4), integers(6, channels, 2, 3, seed=1), integers(2, 6, 4, 2, seed=2)
    check_parity("conv_forward", {"x": x, "weight": weight})
    for deterministic in (False, True):
        given = {"x": x, "grad_output": g, "weight_shape": weight.shape, "deterministic": deterministic}
        check_parity("conv_kernel_gradient", given)

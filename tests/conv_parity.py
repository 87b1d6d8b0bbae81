"""All passes of a convolution on the device and in the reference: equal on small integers, whatever is added first."""

from __future__ import annotations

from typing import Any

import numpy as np
from parity import check_parity, integers

from cnn.kernels import ConvGeometry


def check_passes(x: tuple[int, ...], weight: tuple[int, ...], activation: str | None = None, **options: Any) -> None:
    """Forward with and without bias, input gradient, and the kernel gradient in both ways with the bias's and without.

    x, weight: shapes.
    """
    y = ConvGeometry.of("test", x, weight, **options).y_shape
    arrays = {"x": integers(*x), "weight": integers(*weight, seed=1)}
    g = integers(*y, seed=2)
    check_parity("conv_forward", {**arrays, **options})
    bias = {"bias": integers(weight[0], seed=3), "activation": activation}
    check_parity("conv_forward", {**arrays, **bias, **options}, length=0 if activation in (None, "relu") else 4)
    check_parity("conv_input_gradient", {"grad_output": g, "weight": arrays["weight"], "input_shape": x, **options})
    given = {"x": arrays["x"], "grad_output": g, "weight_shape": weight, **options}
    for deterministic in (False, True):
        check_parity("conv_kernel_gradient", {**given, "deterministic": deterministic})
        grad_bias = np.full(weight[0], np.nan, np.float32)
        check_parity(
            "conv_kernel_gradient", {**given, "deterministic": deterministic, "grad_bias": grad_bias}, "grad_bias"
        )

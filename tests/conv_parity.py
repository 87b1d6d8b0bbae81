"""All passes of a convolution on the device and in the reference: equal on small integers, whatever is added first."""

from __future__ import annotations

from typing import Any

import numpy as np
from parity import check_parity, integers, uniform

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


def check_block(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    window: int | None = 2,
    activation: str | None = "relu",
    input_activation: str | None = "relu",
    around: bool = False,
    length: int = 0,
    **options: Any,
) -> None:
    """A convolution with bias, activation and pooling, both ways, with the two kinds of kernel gradient.

    x, weight: shapes. around: whether x went another way, too. length: of the longest sum where numbers are real, 0 for
    integers, which compare exactly.
    """
    drawn = uniform if length else integers
    arrays = {"x": drawn(*x), "weight": drawn(*weight, seed=1)}
    if length:  # small sums: where float32's tanh is 1, it takes other places for a window's maximum than float64's
        arrays["weight"] /= 8
    given = {**arrays, "bias": drawn(weight[0], seed=2), "activation": activation, "window": window, **options}
    y, *argmax = check_parity("conv_block_forward", given, length=length)
    back = {"activation": activation, "window": window, "input_activation": input_activation, **options}
    back |= {"grad_around": drawn(*x, seed=4)} if around else {}
    back |= {"y": y if activation else None, "argmax": argmax[0] if argmax else None}
    given = {**arrays, "grad_output": drawn(*y.shape, seed=3), **back}
    for deterministic in (False, True):
        fresh = {
            "grad_weight": np.full(weight, np.nan, np.float32),
            "grad_bias": np.full(weight[0], np.nan, np.float32),
        }
        flags = {"deterministic": deterministic, "needs_input_gradient": not deterministic}
        check_parity("conv_block_backward", {**given, **fresh, **flags}, *fresh, length=length)

"""The dense layer, one launch each way; the formulas stand in `cnn.kernels.linear`.

Hand-written where cuBLAS would serve: bias, activations and the two gradients would be launches of their own beside it,
and at the sizes of small networks launches are what costs.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.cuda.dropout import arguments
from cnn.kernels.cuda.launch import aligned, aligned_result, contiguous
from cnn.kernels.cuda.linear_backward import plan_linear_backward
from cnn.kernels.cuda.linear_forward import plan_linear_forward
from cnn.kernels.dropout import Drawn


def linear_forward(
    x: Any, weight: Any, bias: Any | None, activation: str | None, out: Any, drawn: Drawn | None
) -> None:
    images, channels = x.shape
    launch = plan_linear_forward(images, channels, len(weight), bias is not None, activation, drawn is not None)
    numbers = () if drawn is None else arguments(*drawn)
    # Without a bias, y takes its place: an address that is never used. So below.
    launch(aligned(x), aligned(weight), out if bias is None else contiguous(bias), out, images, *numbers)


def linear_backward(
    x: Any,
    weight: Any,
    grad_output: Any,
    activation: str | None,
    y: Any | None,
    input_activation: str | None,
    _deterministic: bool,
    grad_weight: Any,
    grad_bias: Any | None,
    grad_x: Any | None,
    _zeroed: bool,
    scale: float,
    input_scale: float,
) -> None:
    """deterministic and zeroed ask for nothing: sums are made in a fixed order, and written over what was there."""
    images, channels = x.shape
    options = grad_bias is not None, activation, input_activation, grad_x is not None
    launch = plan_linear_backward(images, channels, len(weight), *options)
    x, grad_output = aligned(x), aligned(grad_output)
    y = grad_output if y is None else aligned(y)
    with aligned_result(grad_weight) as weights:
        bias, inputs = weights if grad_bias is None else grad_bias, weights if grad_x is None else grad_x
        launch(x, aligned(weight), grad_output, y, weights, bias, inputs, images, scale, input_scale)

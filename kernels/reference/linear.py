"""The dense layer; the formulas stand in `cnn.kernels.linear`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.dropout import Drawn
from cnn.kernels.reference import activation as activations
from cnn.kernels.reference import dropout as dropouts

Array = np.ndarray[Any, Any]


def linear_forward(
    x: Array, weight: Array, bias: Array | None, activation: str | None, out: Array, drawn: Drawn | None
) -> None:
    out[...] = x @ weight.T
    if bias is not None:
        out += bias
    if activation is not None:
        getattr(activations, f"{activation}_forward")(out, out)
    if drawn is not None:
        dropouts.dropout(out, *drawn, out)


def linear_backward(
    x: Array,
    weight: Array,
    grad_output: Array,
    activation: str | None,
    y: Array | None,
    input_activation: str | None,
    _deterministic: bool,
    grad_weight: Array,
    grad_bias: Array | None,
    grad_x: Array | None,
    _zeroed: bool,
    scale: float,
    input_scale: float,
) -> None:
    g = grad_output * grad_output.dtype.type(scale)
    if activation is not None:
        getattr(activations, f"{activation}_backward")(g, y, g)
    grad_weight[...] = g.T @ x
    if grad_bias is not None:
        grad_bias[...] = g.sum(axis=0)
    if grad_x is not None:
        grad_x[...] = g @ weight * x.dtype.type(input_scale)
        if input_activation is not None:
            getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)

"""The dense layer; the formulas stand in `cnn.kernels.linear`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.reference import activation as activations

Array = np.ndarray[Any, Any]


def linear_forward(x: Array, weight: Array, bias: Array | None, activation: str | None, out: Array) -> None:
    out[...] = x @ weight.T
    if bias is not None:
        out += bias
    if activation is not None:
        getattr(activations, f"{activation}_forward")(out, out)


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
) -> None:
    g = np.empty_like(grad_output)
    g[...] = grad_output
    if activation is not None:
        getattr(activations, f"{activation}_backward")(grad_output, y, g)
    grad_weight[...] = g.T @ x
    if grad_bias is not None:
        grad_bias[...] = g.sum(axis=0)
    if grad_x is not None:
        grad_x[...] = g @ weight
        if input_activation is not None:
            getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)

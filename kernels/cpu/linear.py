"""The dense layer through BLAS; the formulas stand in `cnn.kernels.linear`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.cpu import activation as activations

Array = np.ndarray[Any, Any]


def linear_forward(x: Array, weight: Array, bias: Array | None, activation: str | None, out: Array) -> None:
    np.matmul(x, weight.T, out=out)
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
    g = grad_output
    if activation is not None:
        g = empty(grad_output.shape, np.float32)
        getattr(activations, f"{activation}_backward")(grad_output, y, g)
    np.matmul(g.T, x, out=grad_weight)
    if grad_bias is not None:
        g.sum(axis=0, out=grad_bias)
    if grad_x is not None:
        np.matmul(g, weight, out=grad_x)
        if input_activation is not None:
            getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)

"""Bias and activation of a dense layer: NumPy adds, the compiled loops activate. See `cnn.kernels.bias`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu import activation as activations

Array = np.ndarray[Any, Any]


def add_bias(x: Array, bias: Array, activation: str | None) -> None:
    x += bias
    if activation is not None:
        getattr(activations, f"{activation}_forward")(x, x)


def bias_backward(grad_output: Array, y: Array | None, activation: str | None, grad_x: Array, grad_bias: Array) -> None:
    if activation is not None:
        getattr(activations, f"{activation}_backward")(grad_output, y, grad_x)
    grad_x.sum(axis=0, out=grad_bias)

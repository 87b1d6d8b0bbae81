"""Activations and their derivatives, elementwise."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def relu_forward(x: Array, out: Array) -> None:
    out[...] = np.maximum(x, 0)


def relu_backward(grad_output: Array, y: Array, out: Array) -> None:
    out[...] = np.where(y > 0, grad_output, 0)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array) -> None:
    out[...] = np.where(x > 0, x, x * x.dtype.type(negative_slope))


def leaky_relu_backward(grad_output: Array, y: Array, negative_slope: float, out: Array) -> None:
    out[...] = np.where(y > 0, grad_output, grad_output * y.dtype.type(negative_slope))


def sigmoid_forward(x: Array, out: Array) -> None:
    # exp(-|x|) never overflows: 1 / (1 + e) for x >= 0, e / (1 + e) for x < 0.
    e = np.exp(-np.abs(x))
    out[...] = np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def sigmoid_backward(grad_output: Array, y: Array, out: Array) -> None:
    out[...] = grad_output * y * (1 - y)


def tanh_forward(x: Array, out: Array) -> None:
    out[...] = np.tanh(x)


def tanh_backward(grad_output: Array, y: Array, out: Array) -> None:
    out[...] = grad_output * (1 - y * y)

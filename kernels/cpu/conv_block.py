"""Convolution with bias, activation and pooling; the formulas stand in `cnn.kernels.conv_block`.

relu, pooling, both their ways back, and the sum with another gradient of x happen where the convolution takes its
planes and delivers them (`conv_ends`).
Sigmoid and tanh come before a maximum, and so do theirs one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.composed import ConvBlock
from cnn.kernels.cpu import activation as activations
from cnn.kernels.cpu import conv as convolutions
from cnn.kernels.cpu import pool as pooling
from cnn.kernels.cpu import residual as residuals
from cnn.kernels.geometry import ConvGeometry, PoolGeometry

Array = np.ndarray[Any, Any]

_one_after_the_other = ConvBlock(convolutions, pooling, activations, residuals)


def conv_block_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    conv: ConvGeometry,
    activation: str | None,
    pool: PoolGeometry | None,
    precision: str,
    y: Array,
    argmax: Array | None,
) -> None:
    if pool is None or activation in (None, "relu"):
        convolutions.conv_forward(x, weight, bias, conv, activation, precision, y, pool, argmax)
    else:
        _one_after_the_other.forward(x, weight, bias, conv, activation, pool, precision, y, argmax)


def conv_block_backward(
    x: Array,
    weight: Array,
    grad_output: Array,
    conv: ConvGeometry,
    activation: str | None,
    y: Array | None,
    pool: PoolGeometry | None,
    argmax: Array | None,
    input_activation: str | None,
    grad_around: Array | None,
    deterministic: bool,
    precision: str,
    grad_weight: Array,
    grad_bias: Array | None,
    grad_x: Array | None,
    _zeroed: bool,
) -> None:
    gradient = grad_output
    if activation is not None:
        gradient = empty(grad_output.shape, np.float32)
        getattr(activations, f"{activation}_backward")(grad_output, y, gradient)
    options = deterministic, precision
    convolutions.conv_kernel_gradient(x, gradient, conv, *options, grad_weight, grad_bias, pool, argmax)
    if grad_x is not None:
        gate = x if input_activation == "relu" else None
        convolutions.conv_input_gradient(gradient, weight, conv, precision, grad_x, pool, argmax, gate, grad_around)
        if input_activation is not None and gate is None:
            getattr(activations, f"{input_activation}_backward")(grad_x, x, grad_x)

"""Blocks as one operation after the other, for backends that compute them so, wholly or where nothing is fused."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.geometry import ConvGeometry, PoolGeometry


class ConvBlock:
    """`conv_block_forward` and `conv_block_backward` of a backend, made of its modules of these names."""

    def __init__(self, conv: ModuleType, pool: ModuleType, activation: ModuleType, residual: ModuleType) -> None:
        self.conv = conv
        self.pool = pool
        self.activation = activation
        self.residual = residual

    def forward(
        self,
        x: Any,
        weight: Any,
        bias: Any | None,
        conv: ConvGeometry,
        activation: str | None,
        pool: PoolGeometry | None,
        precision: str,
        y: Any,
        argmax: Any | None,
    ) -> None:
        z = y if pool is None else empty(conv.y_shape, x.dtype, like=x)
        self.conv.conv_forward(x, weight, bias, conv, activation, precision, z)
        if pool is not None:
            self.pool.max_pool_forward(z, pool, y, argmax)

    def backward(
        self,
        x: Any,
        weight: Any,
        grad_output: Any,
        conv: ConvGeometry,
        activation: str | None,
        y: Any | None,
        pool: PoolGeometry | None,
        argmax: Any | None,
        input_activation: str | None,
        grad_around: Any | None,
        deterministic: bool,
        precision: str,
        grad_weight: Any,
        grad_bias: Any | None,
        grad_x: Any | None,
        _zeroed: bool,
    ) -> None:
        gradient = grad_output
        if activation is not None:
            gradient = empty(grad_output.shape, np.dtype(grad_output.dtype), like=grad_output)
            getattr(self.activation, f"{activation}_backward")(grad_output, y, gradient)
        if pool is not None:
            pooled, gradient = gradient, empty(conv.y_shape, grad_output.dtype, like=grad_output)
            self.pool.max_pool_backward(pooled, argmax, pool, gradient)
        self.conv.conv_kernel_gradient(x, gradient, conv, deterministic, precision, grad_weight, grad_bias)
        if grad_x is None:
            return
        own = grad_x if grad_around is None else empty(conv.x_shape, grad_output.dtype, like=grad_output)
        self.conv.conv_input_gradient(gradient, weight, conv, precision, own)
        if grad_around is not None:
            self.residual.residual_backward(own, grad_around, input_activation, x, grad_x)
        elif input_activation is not None:
            getattr(self.activation, f"{input_activation}_backward")(grad_x, x, grad_x)

"""Activations, elementwise; the formulas stand in `cnn.kernels.activation`.

A thread takes four consecutive elements with one 128-bit access for each array: a warp moves 512 bytes in a row. All
arrays come whole from an allocator, so that their first element lies at a multiple of 16 bytes; views that do not are
copied. The last thread takes what is left, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch, aligned

# Enough warps in a block to hide a load behind the others, few enough that blocks are plenty.
THREADS = 128


def relu_forward(x: Any, out: Any) -> None:
    plan("relu_forward", x.size)(aligned(x), out, x.size)


def relu_backward(grad_output: Any, y: Any, out: Any) -> None:
    plan("relu_backward", y.size)(aligned(grad_output), aligned(y), out, y.size)


def leaky_relu_forward(x: Any, negative_slope: float, out: Any) -> None:
    plan("leaky_relu_forward", x.size, negative_slope)(aligned(x), out, x.size)


def leaky_relu_backward(grad_output: Any, y: Any, negative_slope: float, out: Any) -> None:
    plan("leaky_relu_backward", y.size, negative_slope)(aligned(grad_output), aligned(y), out, y.size)


def sigmoid_forward(x: Any, out: Any) -> None:
    plan("sigmoid_forward", x.size)(aligned(x), out, x.size)


def sigmoid_backward(grad_output: Any, y: Any, out: Any) -> None:
    plan("sigmoid_backward", y.size)(aligned(grad_output), aligned(y), out, y.size)


def tanh_forward(x: Any, out: Any) -> None:
    plan("tanh_forward", x.size)(aligned(x), out, x.size)


def tanh_backward(grad_output: Any, y: Any, out: Any) -> None:
    plan("tanh_backward", y.size)(aligned(grad_output), aligned(y), out, y.size)


def plan(operation: str, size: int, negative_slope: float = 0.0) -> Launch:
    """The launch for `size` elements; its arguments are the inputs, the output and the size."""
    kernel = _kernel(operation, negative_slope)
    return Launch(kernel, (-(-size // (4 * THREADS)),), (THREADS,))


@device
def relu(x):
    return float32(0) if x < float32(0) else x  # NaN is not below zero, and stays


@device
def relu_gradient(g, y):
    return g if y > float32(0) else float32(0)


@device
def sigmoid(x):
    e = math.exp(-abs(x))  # at most 1: nothing overflows
    return (float32(1) if x >= float32(0) else e) / (float32(1) + e)


@device
def sigmoid_gradient(g, y):
    return g * y * (float32(1) - y)


@device
def tanh(x):
    return math.tanh(x)


@device
def tanh_gradient(g, y):
    return g * (float32(1) - y * y)


@device
def unchanged(x):
    return x


@device
def gradient_itself(g, _y):
    return g


# What kernels of other operations take in: z -> act(z), and (g, y) -> g * act'(z) from the output y.
FUNCTIONS: dict[str | None, Any] = {None: unchanged, "relu": relu, "sigmoid": sigmoid, "tanh": tanh}
DERIVATIVES: dict[str | None, Any] = {
    None: gradient_itself,
    "relu": relu_gradient,
    "sigmoid": sigmoid_gradient,
    "tanh": tanh_gradient,
}


@cache
def _kernel(operation: str, negative_slope: float) -> Kernel:
    slope = np.float32(negative_slope)

    @device
    def leaky_relu(x):
        return x if x > float32(0) else x * slope

    @device
    def leaky_relu_gradient(g, y):
        return g if y > float32(0) else g * slope

    name, _, direction = operation.rpartition("_")
    forward = {**FUNCTIONS, "leaky_relu": leaky_relu}
    backward = {**DERIVATIVES, "leaky_relu": leaky_relu_gradient}
    real = pointer(float32)
    if direction == "forward":
        return Kernel(operation, _unary(forward[name]), (real, real, uint32), THREADS)
    return Kernel(operation, _binary(backward[name]), (real, real, real, uint32), THREADS)


def _unary(function: Callable[..., Any]) -> Callable[..., None]:
    def unary(x, y, size):
        i = (cuda.blockIdx.x * uint32(THREADS) + cuda.threadIdx.x) * uint32(4)
        if i + uint32(4) <= size:
            a, b, c, d = load4(x, i)
            store4(y, i, function(a), function(b), function(c), function(d))
        else:
            while i < size:
                y[i] = function(x[i])
                i += uint32(1)

    return unary


def _binary(function: Callable[..., Any]) -> Callable[..., None]:
    def binary(g, y, grad, size):
        i = (cuda.blockIdx.x * uint32(THREADS) + cuda.threadIdx.x) * uint32(4)
        if i + uint32(4) <= size:
            a, b, c, d = load4(g, i)
            e, f, h, j = load4(y, i)
            store4(grad, i, function(a, e), function(b, f), function(c, h), function(d, j))
        else:
            while i < size:
                grad[i] = function(g[i], y[i])
                i += uint32(1)

    return binary

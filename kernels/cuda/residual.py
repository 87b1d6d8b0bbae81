"""The sums of a residual layer; the formulas stand in `cnn.kernels.residual`.

A thread takes four consecutive elements, as in `cnn.kernels.cuda.activation`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cnn.kernels.cuda.activation import DERIVATIVES, FUNCTIONS, THREADS
from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch, aligned

REAL = pointer(float32)


def residual_forward(body: Any, around: Any, activation: str | None, y: Any) -> None:
    plan_residual_forward(y.size, activation)(aligned(body), aligned(around), y, y.size)


def residual_backward(
    grad_body: Any, grad_around: Any, input_activation: str | None, x: Any | None, grad_x: Any
) -> None:
    x = grad_body if x is None else x  # not read without an activation
    launch = plan_residual_backward(grad_x.size, input_activation)
    launch(aligned(grad_body), aligned(grad_around), aligned(x), grad_x, grad_x.size)


def plan_residual_forward(size: int, activation: str | None) -> Launch:
    return Launch(_forward(activation), (-(-size // (4 * THREADS)),), (THREADS,))


def plan_residual_backward(size: int, input_activation: str | None) -> Launch:
    return Launch(_backward(input_activation), (-(-size // (4 * THREADS)),), (THREADS,))


@cache
def _forward(activation: str | None) -> Kernel:
    act = FUNCTIONS[activation]

    def forward(body, around, y, size):
        i = (cuda.blockIdx.x * uint32(THREADS) + cuda.threadIdx.x) * uint32(4)
        if i + uint32(4) <= size:
            a, b, c, d = load4(body, i)
            e, f, g, h = load4(around, i)
            store4(y, i, act(a + e), act(b + f), act(c + g), act(d + h))
        else:
            while i < size:
                y[i] = act(body[i] + around[i])
                i += uint32(1)

    return Kernel("residual_forward", forward, (REAL, REAL, REAL, uint32), THREADS)


@cache
def _backward(input_activation: str | None) -> Kernel:
    derivative = DERIVATIVES[input_activation]

    def backward(body, around, x, grad_x, size):
        i = (cuda.blockIdx.x * uint32(THREADS) + cuda.threadIdx.x) * uint32(4)
        if i + uint32(4) <= size:
            a, b, c, d = load4(body, i)
            e, f, g, h = load4(around, i)
            j, k, m, n = load4(x, i)
            store4(grad_x, i, derivative(a + e, j), derivative(b + f, k), derivative(c + g, m), derivative(d + h, n))
        else:
            while i < size:
                grad_x[i] = derivative(body[i] + around[i], x[i])
                i += uint32(1)

    return Kernel("residual_backward", backward, (REAL, REAL, REAL, REAL, uint32), THREADS)

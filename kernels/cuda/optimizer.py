"""Optimiser updates over one flat array, in one launch; the formulas stand in `cnn.kernels.optimizer`.

A thread owns one element, so that a warp's accesses are whole lines of 128 bytes wherever the arrays begin. Factors
that change from step to step are parameters, computed in float64 on the host.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from cnn.kernels.cuda.compiler import Kernel, cuda, float32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, contiguous

THREADS = 128

REAL = pointer(float32)


def sgd_update(
    value: Any,
    gradient: Any,
    velocity: Any,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    launch = plan_sgd(value.size, nesterov)
    launch(value, contiguous(gradient), velocity, lr, momentum, weight_decay, value.size)


def adam_update(
    value: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    beta1, beta2 = betas
    rate, root = lr / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step)
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    factors = rate, root, beta1, 1 - beta1, beta2, 1 - beta2, eps, shrink, decay
    plan_adam(value.size)(value, contiguous(gradient), mean, square, *factors, value.size)


@cache
def plan_sgd(size: int, nesterov: bool) -> Launch:
    return Launch(_sgd(nesterov), (-(-size // THREADS),), (THREADS,))


@cache
def plan_adam(size: int) -> Launch:
    kernel = Kernel("adam_update", _adam, (REAL,) * 4 + (float32,) * 9 + (uint32,), THREADS)
    return Launch(kernel, (-(-size // THREADS),), (THREADS,))


@cache
def _sgd(nesterov: bool) -> Kernel:
    def sgd(value, gradient, velocity, lr, momentum, weight_decay, size):
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < size:
            g = gradient[i] + weight_decay * value[i]
            v = momentum * velocity[i] + g
            velocity[i] = v
            value[i] -= lr * (g + momentum * v if nesterov else v)

    return Kernel("sgd_update", sgd, (REAL,) * 3 + (float32,) * 3 + (uint32,), THREADS)


def _adam(value, gradient, mean, square, rate, root, beta1, rest1, beta2, rest2, eps, shrink, decay, size):
    i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
    if i < size:
        g = gradient[i] + decay * value[i]
        m = beta1 * mean[i] + rest1 * g
        s = beta2 * square[i] + rest2 * g * g
        mean[i], square[i] = m, s
        value[i] = shrink * value[i] - rate * m / (math.sqrt(s) * root + eps)

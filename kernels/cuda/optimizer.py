"""Optimiser updates over one flat array, in one launch; the formulas stand in `cnn.kernels.optimizer`.

A thread owns one element, so that a warp's accesses are whole lines of 128 bytes wherever the arrays begin. What
changes from step to step, the rate and the number of the step, is read from memory.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels import buffers
from cnn.kernels.cuda import record as records
from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, int32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, contiguous
from cnn.kernels.cuda.side_by_side import alone, side_by_side
from cnn.kernels.record import Record

THREADS = 128

REAL, COUNT = pointer(float32), pointer(int32)


def sgd_update(
    value: Any,
    gradient: Any,
    velocity: Any,
    lr: Any,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    record: Record | None,
) -> None:
    rate = _in_memory(lr, np.float32, value)
    arguments = value, contiguous(gradient), velocity, rate, momentum, weight_decay, value.size
    _run(plan_sgd(value.size, nesterov), arguments, record)


def adam_update(
    value: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    step: Any,
    lr: Any,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    record: Record | None,
) -> None:
    changing = _in_memory(step, np.int32, value), _in_memory(lr, np.float32, value)
    # Logarithms from the host: 1 - beta^t = -expm1(t log beta) then keeps its digits where beta is close to 1.
    logarithms = (math.log(beta) if beta else -math.inf for beta in betas)
    factors = (number for beta, log in zip(betas, logarithms, strict=True) for number in (beta, 1 - beta, log))
    arrays = value, contiguous(gradient), mean, square
    _run(plan_adam(value.size, decoupled), (*arrays, *changing, *factors, eps, weight_decay, value.size), record)


def with_record(launch: Launch, calls: bool = False) -> Launch:
    """An update with the end of the step in the same launch. calls: whether those of dropout are counted."""
    return side_by_side(launch, records.plan_record(THREADS, calls))


def _run(launch: Launch, arguments: tuple[Any, ...], record: Record | None) -> None:
    if record is None:
        launch(*arguments)
    else:
        with_record(launch, record.calls is not None)(launch.grid[0], *arguments, *records.arguments(record))


@cache
def plan_sgd(size: int, nesterov: bool) -> Launch:
    return Launch(_sgd(nesterov), (-(-size // THREADS),), (THREADS,))


@cache
def plan_adam(size: int, decoupled: bool) -> Launch:
    return Launch(_adam(decoupled), (-(-size // THREADS),), (THREADS,))


def _in_memory(number: Any, dtype: Any, like: Any) -> Any:
    """A number as an array (1,); one that is in memory already is left there."""
    if not isinstance(number, float):
        return number
    array = buffers.empty((1,), dtype, like=like)
    array.fill(number)
    return array


@cache
def _sgd(nesterov: bool) -> Kernel:
    @device
    def sgd(block, arguments, _shared):
        value, gradient, velocity, lr, momentum, weight_decay, size = arguments
        i = uint32(block * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < size:
            g = gradient[i] + weight_decay * value[i]
            v = momentum * velocity[i] + g
            velocity[i] = v
            value[i] -= lr[0] * (g + momentum * v if nesterov else v)

    return alone("sgd_update", sgd, (REAL,) * 4 + (float32,) * 2 + (uint32,), THREADS, {})


@cache
def _adam(decoupled: bool) -> Kernel:
    @device
    def adam(block, arguments, _shared):
        value, gradient, mean, square, step, lr = arguments[:6]
        beta1, rest1, log1, beta2, rest2, log2, eps, weight_decay, size = arguments[6:]
        i = uint32(block * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < size:
            t, rate, x = float32(step[0]), lr[0], value[i]
            g = gradient[i]
            if decoupled:
                x *= float32(1) - rate * weight_decay
            else:
                g += weight_decay * x
            m = beta1 * mean[i] + rest1 * g
            s = beta2 * square[i] + rest2 * g * g
            mean[i], square[i] = m, s
            root = math.sqrt(s / -math.expm1(t * log2))
            value[i] = x - rate * (m / -math.expm1(t * log1)) / (root + eps)

    return alone("adam_update", adam, (REAL,) * 4 + (COUNT, REAL) + (float32,) * 8 + (uint32,), THREADS, {})

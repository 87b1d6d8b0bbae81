"""Optimiser updates, one pass over the flat arrays; the formulas stand in `cnn.kernels.optimizer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.threads import share

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many parameters.
LEAST = 2**15


def sgd_update(
    value: Array,
    gradient: Array,
    velocity: Array,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    arrays = value, np.ascontiguousarray(gradient), velocity
    numbers = np.float32(lr), np.float32(momentum), nesterov, np.float32(weight_decay)
    share(lambda *part: _sgd(*arrays, *numbers, *part), value.size, LEAST)


def adam_update(
    value: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    beta1, beta2 = betas
    arrays = value, np.ascontiguousarray(gradient), mean, square
    rate, root = lr / (1 - beta1**step), 1 / (1 - beta2**step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    numbers = [np.float32(a) for a in (rate, root, beta1, 1 - beta1, beta2, 1 - beta2, eps, shrink, decay)]
    share(lambda *part: _adam(*arrays, *numbers, *part), value.size, LEAST)


@jit()
def _sgd(value, gradient, velocity, lr, momentum, nesterov, weight_decay, first, last):
    for i in range(first, last):
        g = gradient[i] + weight_decay * value[i]
        velocity[i] = momentum * velocity[i] + g
        value[i] -= lr * (g + momentum * velocity[i] if nesterov else velocity[i])


@jit()
def _adam(value, gradient, mean, square, rate, root, beta1, rest1, beta2, rest2, eps, shrink, decay, first, last):
    for i in range(first, last):
        g = gradient[i] + decay * value[i]
        mean[i] = beta1 * mean[i] + rest1 * g
        square[i] = beta2 * square[i] + rest2 * g * g
        value[i] = shrink * value[i] - rate * mean[i] / (np.sqrt(square[i]) * root + eps)

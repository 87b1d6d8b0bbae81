"""Optimiser updates, one pass over the flat arrays; the formulas stand in `cnn.kernels.optimizer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu import record as records
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled
from cnn.kernels.record import Record

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
    record: Record | None,
) -> None:
    arrays = value, np.ascontiguousarray(gradient), velocity
    numbers = np.float32(lr), np.float32(momentum), nesterov, np.float32(weight_decay)
    share_signalled(lambda words, i, j: _sgd(words, *arrays, *numbers, i, j), value.size, LEAST)
    if record is not None:
        records.record(record)


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
    record: Record | None,
) -> None:
    beta1, beta2 = betas
    arrays = value, np.ascontiguousarray(gradient), mean, square
    rate, root = lr / (1 - beta1**step), 1 / (1 - beta2**step) ** 0.5
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    numbers = [np.float32(a) for a in (rate, root, beta1, 1 - beta1, beta2, 1 - beta2, eps, shrink, decay)]
    share_signalled(lambda words, i, j: _adam(words, *arrays, *numbers, i, j), value.size, LEAST)
    if record is not None:
        records.record(record)


@jit()
def _sgd(words, value, gradient, velocity, lr, momentum, nesterov, weight_decay, first, last):
    begin(words)
    for i in range(first, last):
        g = get(gradient, i) + weight_decay * get(value, i)
        v = momentum * get(velocity, i) + g
        put(velocity, i, v)
        put(value, i, get(value, i) - lr * (g + momentum * v if nesterov else v))


@jit()
def _adam(words, value, gradient, mean, square, lr, root, beta1, rest1, beta2, rest2, eps, shrink, decay, first, last):
    begin(words)
    for i in range(first, last):
        g = get(gradient, i) + decay * get(value, i)
        m = beta1 * get(mean, i) + rest1 * g
        s = beta2 * get(square, i) + rest2 * g * g
        put(mean, i, m)
        put(square, i, s)
        put(value, i, shrink * get(value, i) - lr * m / (np.sqrt(s) * root + eps))

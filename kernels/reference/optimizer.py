"""Optimiser updates; the formulas stand in `cnn.kernels.optimizer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.record import Record
from cnn.kernels.reference import record as records

Array = np.ndarray[Any, Any]


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
    real = value.dtype.type
    g = gradient + real(weight_decay) * value
    velocity[...] = real(momentum) * velocity + g
    value -= real(lr) * (g + real(momentum) * velocity if nesterov else velocity)
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
    real = value.dtype.type
    beta1, beta2 = betas
    if decoupled:
        value *= real(1 - lr * weight_decay)
        g = gradient
    else:
        g = gradient + real(weight_decay) * value
    mean[...] = real(beta1) * mean + real(1 - beta1) * g
    square[...] = real(beta2) * square + real(1 - beta2) * g * g
    root = np.sqrt(square) / real((1 - beta2**step) ** 0.5) + real(eps)
    value -= real(lr / (1 - beta1**step)) * mean / root
    if record is not None:
        records.record(record)

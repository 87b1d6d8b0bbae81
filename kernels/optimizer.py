"""Optimiser updates in place, over one flat array of all parameters.

    SGD    g = gradient + weight_decay * value;  v = momentum * v + g  (v = g in the first step)
           value -= lr * (g + momentum * v  with Nesterov, else v)
    Adam   m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2
           value -= lr * (m / (1 - beta1^t)) / (sqrt(s / (1 - beta2^t)) + eps)
           Adam adds weight_decay * value to g; AdamW (decoupled) shrinks value by lr * weight_decay instead.

As `torch.optim.SGD` (without dampening), `Adam` and `AdamW` do. What changes from step to step, lr and t, may also be
an array of one element beside the others: it is read when the update runs, so that a recorded one goes with the time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cnn.kernels.dispatch import backend_module, check_arrays, check_shape, check_written, is_array, readable
from cnn.kernels.errors import BackendError, DTypeError, ShapeError
from cnn.kernels.options import check_flag, check_number
from cnn.kernels.record import Record, check_record


def sgd_update(
    value: Any,
    gradient: Any,
    velocity: Any,
    *,
    lr: Any,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    record: Record | None = None,
) -> None:
    """One step of SGD on flat arrays (n,): value and velocity are updated in place.

    lr: a number, or a float32 array (1,). A velocity of zeros is the state before the first step. record:
    the end of the step, done along. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "sgd_update"
    _check(operation, value, gradient, velocity=velocity)
    rate = _changing(operation, "lr", lr, value, np.float32)
    numbers = {"momentum": momentum, "weight_decay": weight_decay}
    keep, decay = (check_number(operation, name, number) for name, number in numbers.items())
    nesterov = check_flag(operation, "nesterov", nesterov)
    if record is not None:
        check_record(operation, record)
    module = backend_module(operation, "optimizer", value)
    module.sgd_update(value, gradient, velocity, rate, keep, nesterov, decay, record)


def adam_update(
    value: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    *,
    step: Any,
    lr: Any,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    record: Record | None = None,
) -> None:
    """Step number `step` (from 1) of Adam, or AdamW with decoupled=True, on flat arrays (n,).

    step: a number, or an int32 array (1,). lr: a number, or a float32 array (1,). value, mean and square are updated in
    place. record: the end of the step, done along. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "adam_update"
    _check(operation, value, gradient, mean=mean, square=square)
    count = _changing(operation, "step", step, value, np.int32, least=1)
    rate = _changing(operation, "lr", lr, value, np.float32)
    numbers = {"eps": eps, "weight_decay": weight_decay}
    eps, decay = (check_number(operation, name, number) for name, number in numbers.items())
    decoupled = check_flag(operation, "decoupled", decoupled)
    betas = _betas(operation, betas)
    if record is not None:
        check_record(operation, record)
    module = backend_module(operation, "optimizer", value)
    module.adam_update(value, gradient, mean, square, count, rate, betas, eps, decay, decoupled, record)


def _changing(operation: str, name: str, given: Any, value: Any, dtype: Any, least: float = -math.inf) -> Any:
    """A number: as it is, or in an array (1,) of `dtype`, which only a GPU's kernels read by themselves."""
    if not is_array(given):
        return check_number(operation, name, given, least)
    if isinstance(given, np.ndarray) != isinstance(value, np.ndarray):
        raise BackendError(f"{operation}: {name} must live where value does")
    if given.dtype != dtype:
        raise DTypeError(f"{operation}: {name} must be a number or an array of {np.dtype(dtype)}, got {given.dtype}")
    check_shape(operation, name, given, (1,))
    return check_number(operation, name, given[0], least) if readable(given) else given


def _betas(operation: str, betas: Any) -> tuple[float, float]:
    pair: Any = betas if isinstance(betas, list | tuple) and len(betas) == 2 else (None, None)
    if not all(isinstance(beta, int | float | np.number) and 0 <= beta < 1 for beta in pair):
        raise ShapeError(f"{operation}: betas must be two numbers from 0 to below 1, got {betas!r}")
    return float(pair[0]), float(pair[1])


def _check(operation: str, value: Any, gradient: Any, **state: Any) -> None:
    check_arrays(operation, value=value, gradient=gradient, **state)
    if value.ndim != 1 or not value.flags.c_contiguous:
        raise ShapeError(f"{operation}: value must be a contiguous array (n,), got shape {value.shape}")
    check_shape(operation, "gradient", gradient, value.shape)
    check_written(operation, "value", value, gradient, *state.values())
    for name, array in state.items():
        check_shape(operation, name, array, value.shape)
        check_written(operation, name, array, gradient, *(other for key, other in state.items() if key != name))
        if not array.flags.c_contiguous:
            raise ShapeError(f"{operation}: {name} must be contiguous")

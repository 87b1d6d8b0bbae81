"""Inverted dropout, with random numbers that are a function of their place: y[i] = x[i] / (1 - p), or 0.

Element i of call number c under a seed is kept where u >= p, with

    u = (word >> 8) / 2^24
    word = number i % 4 of Philox4x32-10, counter (i // 4, 0, c, c >> 32), key (seed, seed >> 32), 32 bits of each

Nothing is stored: the way back draws the same numbers again, and so does any backend.
Sources: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html; Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3", https://doi.org/10.1145/2063384.2063405.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape
from cnn.kernels.errors import DTypeError, ShapeError
from cnn.kernels.options import check_number

UNIT = 2**24  # steps of u: as many as float32 can tell apart below 1


class Drawn(NamedTuple):
    """A checked call: what u is compared with, in steps of 1 / UNIT; what is kept is multiplied with; its numbers."""

    threshold: int
    scale: float
    state: Any
    call: int


def dropout(x: Any, p: float, state: Any, call: int = 0) -> Any:
    """Drop elements of x, of any shape, in call number state[1] + call under the seed state[0].

    state: uint64 (2,), where x is: a GPU reads it when the kernel runs, so that replayed work draws new numbers once
    what it holds has changed. The way back is the same call with the gradient of y in place of x.
    Returns y in the shape and dtype of x. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "dropout"
    check_arrays(operation, x=x)
    numbers = drawn(operation, p, state, call, like=x)
    module = backend_module(operation, "dropout", x)
    y = empty(x.shape, x.dtype, like=x)
    module.dropout(x, *numbers, y)
    return y


def drawn(operation: str, p: float, state: Any, call: int, like: Any) -> Drawn:
    """Raises as `dropout` does, in the name of `operation`."""
    check_labels(operation, "state", state, like)
    if state.dtype != np.uint64:
        raise DTypeError(f"{operation}: state must be uint64, got {state.dtype}")
    check_shape(operation, "state", state, (2,))
    kept = scale(operation, "p", p)
    if not isinstance(call, int | np.integer) or not 0 <= call < 2**64:
        raise ShapeError(f"{operation}: call must be a whole number from 0 to 2^64 - 1, got {call!r}")
    return Drawn(math.ceil(float(p) * UNIT), kept, state, int(call))


def scale(operation: str, name: str, p: Any) -> float:
    """1 / (1 - p), or 0 where nothing is kept. Raises `ShapeError` for a p outside 0..1."""
    number = check_number(operation, name, p, least=0)
    if number > 1:
        raise ShapeError(f"{operation}: {name} must lie in 0..1, got {p}")
    return 0.0 if number == 1 else 1 / (1 - number)

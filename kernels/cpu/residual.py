"""The sums of a residual layer; the formulas stand in `cnn.kernels.residual`. A thread takes a run of elements."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.activation import LEAST, NUMBERS, activated, differentiated
from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled

Array = np.ndarray[Any, Any]

SLOPE = np.float32(0)  # of the leaky activation, which none is here


def residual_forward(body: Array, around: Array, activation: str | None, y: Array) -> None:
    loop = _add(NUMBERS[activation])
    arrays = flat(body), flat(around), y.reshape(-1)
    share_signalled(lambda words, i, j: loop(words, *arrays, i, j), y.size, LEAST)


def residual_backward(
    grad_body: Array, grad_around: Array, input_activation: str | None, x: Array | None, grad_x: Array
) -> None:
    arrays: tuple[Array, ...] = flat(grad_body), flat(grad_around)
    out = grad_x.reshape(-1)
    if x is None:
        loop = _add(NUMBERS[None])
    else:
        loop, arrays = _add_gradients(NUMBERS[input_activation]), (*arrays, flat(x))
    share_signalled(lambda words, i, j: loop(words, *arrays, out, i, j), out.size, LEAST)


@cache
def _add(number: int) -> Any:
    @jit()
    def add(words, body, around, y, first, last):
        begin(words)
        for i in range(first, last):
            put(y, i, activated(number, get(body, i) + get(around, i), SLOPE))

    return add


@cache
def _add_gradients(number: int) -> Any:
    @jit()
    def add_gradients(words, body, around, x, grad_x, first, last):
        begin(words)
        for i in range(first, last):
            put(grad_x, i, differentiated(number, get(body, i) + get(around, i), get(x, i), SLOPE))

    return add_gradients

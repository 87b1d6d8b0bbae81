"""Dropout; formulas and sources stand in `cnn.kernels.dropout`.

A thread owns four elements, which one block of random numbers serves, with one 128-bit access each way. Other kernels
that drop what they write take `arguments` along, of types `ARGUMENTS`, and call `dropped_element`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cuda.compiler import Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.intrinsics import load4, store4
from cnn.kernels.cuda.launch import Launch, aligned, contiguous
from cnn.kernels.cuda.philox import words_of_call

THREADS = 128

# The state as four words, the call's number in two, threshold, scale.
ARGUMENTS = pointer(uint32), uint32, uint32, uint32, float32


def dropout(x: Any, threshold: int, scale: float, state: Any, call: int, out: Any) -> None:
    plan_dropout(x.size)(aligned(x), out, x.size, *arguments(threshold, scale, state, call))


def arguments(threshold: int, scale: float, state: Any, call: int) -> tuple[Any, ...]:
    return contiguous(state).view(np.uint32), call & 0xFFFFFFFF, call >> 32, threshold, scale


@cache
def plan_dropout(size: int) -> Launch:
    """Arguments: x, y, size, and `arguments`."""
    return Launch(_kernel(), (-(-size // (4 * THREADS)),), (THREADS,))


@device
def factor(word, threshold, scale):
    """What an element is multiplied with."""
    return scale if word >> uint32(8) >= threshold else float32(0)


@device
def dropped_element(value, i, numbers):
    """`value`, element i, after dropout; numbers: `arguments`."""
    state, low, high, threshold, scale = numbers
    one, two, three, four = words_of_call(i >> uint32(2), state, low, high)
    place = i & uint32(3)
    first, second = (two if place == uint32(1) else one), (four if place == uint32(3) else three)
    return factor(first if place < uint32(2) else second, threshold, scale) * value


@device
def kept_element(value, _i, _numbers):
    return value


def _dropout(x, y, size, state, low, high, threshold, scale):
    block = uint32(cuda.blockIdx.x * uint32(THREADS) + cuda.threadIdx.x)
    i = uint32(block * uint32(4))
    if i < size:
        one, two, three, four = words_of_call(block, state, low, high)
        a, b = factor(one, threshold, scale), factor(two, threshold, scale)
        c, d = factor(three, threshold, scale), factor(four, threshold, scale)
        if uint32(i + uint32(4)) <= size:
            e, f, g, h = load4(x, i)
            store4(y, i, a * e, b * f, c * g, d * h)
        else:
            y[i] = a * x[i]
            if uint32(i + uint32(1)) < size:
                y[i + uint32(1)] = b * x[i + uint32(1)]
            if uint32(i + uint32(2)) < size:
                y[i + uint32(2)] = c * x[i + uint32(2)]


@cache
def _kernel() -> Kernel:
    real = pointer(float32)
    return Kernel("dropout", _dropout, (real, real, uint32, *ARGUMENTS), THREADS)

"""Activations, elementwise; the formulas stand in `cnn.kernels.activation`. A thread takes a run of elements.

exp and tanh are polynomials after range reduction, so that loops over them use vectors where a call to the C library
would stand. Source: Moshier, Cephes Mathematical Library, expf and tanhf.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.element import get, put
from cnn.kernels.cpu.layout import flat
from cnn.kernels.cpu.signals import begin
from cnn.kernels.cpu.threads import share_signalled

Array = np.ndarray[Any, Any]

# Below this many elements a thread costs more than it computes: about 10 us of a simple loop.
LEAST = 2**15

# A loop is compiled for one of these numbers: a constant, which leaves nothing of the other branches.
NONE, RELU, LEAKY_RELU, SIGMOID, TANH = range(5)
NUMBERS = {None: NONE, "relu": RELU, "sigmoid": SIGMOID, "tanh": TANH}


def relu_forward(x: Array, out: Array) -> None:
    _forward(RELU, x, out)


def relu_backward(grad_output: Array, y: Array, out: Array) -> None:
    _backward(RELU, grad_output, y, out)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array) -> None:
    _forward(LEAKY_RELU, x, out, negative_slope)


def leaky_relu_backward(grad_output: Array, y: Array, negative_slope: float, out: Array) -> None:
    _backward(LEAKY_RELU, grad_output, y, out, negative_slope)


def sigmoid_forward(x: Array, out: Array) -> None:
    _forward(SIGMOID, x, out)


def sigmoid_backward(grad_output: Array, y: Array, out: Array) -> None:
    _backward(SIGMOID, grad_output, y, out)


def tanh_forward(x: Array, out: Array) -> None:
    _forward(TANH, x, out)


def tanh_backward(grad_output: Array, y: Array, out: Array) -> None:
    _backward(TANH, grad_output, y, out)


def _forward(number: int, x: Array, out: Array, slope: float = 0.0) -> None:
    loop, values, target = _activate(number), flat(x), out.reshape(-1)
    share_signalled(lambda words, i, j: loop(words, values, np.float32(slope), target, i, j), out.size, LEAST)


def _backward(number: int, grad_output: Array, y: Array, out: Array, slope: float = 0.0) -> None:
    arrays: tuple[Array, ...] = flat(grad_output), flat(y)
    target = out.reshape(-1)
    if out is grad_output:
        loop, arrays = _differentiate_in_place(number), arrays[1:]
    else:
        loop = _differentiate(number)
    share_signalled(lambda words, i, j: loop(words, *arrays, np.float32(slope), target, i, j), out.size, LEAST)


@jit(inline="always")
def activated(number, x, slope):
    if number == RELU:
        return np.float32(0) if x < np.float32(0) else x  # NaN is not below zero, and stays
    if number == LEAKY_RELU:
        return x if x > np.float32(0) else x * slope
    if number == SIGMOID:
        e = exp_of_negative(-abs(x))  # at most 1: nothing overflows
        return (np.float32(1) if x >= np.float32(0) else e) / (np.float32(1) + e)
    if number == TANH:
        return tanh(x)
    return x


@jit(inline="always")
def differentiated(number, gradient, y, slope):
    """gradient times the derivative where the activation gave y."""
    if number == RELU:
        return gradient if y > np.float32(0) else np.float32(0)
    if number == LEAKY_RELU:
        return gradient if y > np.float32(0) else gradient * slope
    if number == SIGMOID:
        return gradient * y * (np.float32(1) - y)
    if number == TANH:
        return gradient * (np.float32(1) - y * y)
    return gradient


@jit(inline="always")
def exp_of_negative(x):
    """exp(x) for x <= 0, or NaN: 2^k exp(r) with |r| <= ln 2 / 2."""
    # Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
    shifted = x * np.float32(1.44269504) + np.float32(12582912)
    k = shifted - np.float32(12582912)
    r = (x - k * np.float32(0.693359375)) + k * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4) * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.int32((np.float32(shifted).view(np.int32) + 127) << 23).view(np.float32)
    # exp(-87) is 1.6e-38: what lies below is subnormal, and 2^k no number at all in the end.
    return np.float32(0) if x < np.float32(-87) else (p * r * r + r + np.float32(1)) * power


@jit(inline="always")
def tanh(x):
    z = x * x
    p = np.float32(-5.70498872745e-3) * z + np.float32(2.06390887954e-2)
    p = p * z - np.float32(5.37397155531e-2)
    p = p * z + np.float32(1.33314422036e-1)
    p = p * z - np.float32(3.33332819422e-1)
    near = p * z * x + x
    e = exp_of_negative(np.float32(-2) * abs(x))
    far = (np.float32(1) - e) / (np.float32(1) + e)
    far = far if x > np.float32(0) else -far
    return near if abs(x) < np.float32(0.625) else far


@cache
def _activate(number: int) -> Any:
    @jit()
    def activate(words, x, slope, y, first, last):
        begin(words)
        for i in range(first, last):
            put(y, i, activated(number, get(x, i), slope))

    return activate


@cache
def _differentiate(number: int) -> Any:
    @jit()
    def differentiate(words, grad_output, y, slope, grad_x, first, last):
        begin(words)
        for i in range(first, last):
            put(grad_x, i, differentiated(number, get(grad_output, i), get(y, i), slope))

    return differentiate


@cache
def _differentiate_in_place(number: int) -> Any:
    # One array less: with both names for one memory the compiler would not use vectors.
    @jit()
    def differentiate_in_place(words, y, slope, gradient, first, last):
        begin(words)
        for i in range(first, last):
            put(gradient, i, differentiated(number, get(gradient, i), get(y, i), slope))

    return differentiate_in_place

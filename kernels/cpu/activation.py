"""Activations, elementwise; the formulas stand in `cnn.kernels.activation`. A thread takes a run of elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.threads import share

Array = np.ndarray[Any, Any]

# Below this many elements a thread costs more than it computes: about 10 us of a simple loop.
LEAST = 2**15


def relu_forward(x: Array, out: Array) -> None:
    _run(_relu, out, x)


def relu_backward(grad_output: Array, y: Array, out: Array) -> None:
    _run(_relu_gradient, out, grad_output, y)


def leaky_relu_forward(x: Array, negative_slope: float, out: Array) -> None:
    _run(_leaky_relu, out, x, np.float32(negative_slope))


def leaky_relu_backward(grad_output: Array, y: Array, negative_slope: float, out: Array) -> None:
    _run(_leaky_relu_gradient, out, grad_output, y, np.float32(negative_slope))


def sigmoid_forward(x: Array, out: Array) -> None:
    _run(_sigmoid, out, x)


def sigmoid_backward(grad_output: Array, y: Array, out: Array) -> None:
    _run(_sigmoid_gradient, out, grad_output, y)


def tanh_forward(x: Array, out: Array) -> None:
    _run(_tanh, out, x)


def tanh_backward(grad_output: Array, y: Array, out: Array) -> None:
    _run(_tanh_gradient, out, grad_output, y)


def _run(loop: Any, out: Array, *inputs: Any) -> None:
    flat = [np.ascontiguousarray(a).reshape(-1) if isinstance(a, np.ndarray) else a for a in inputs]
    target = out.reshape(-1)
    share(lambda first, last: loop(*flat, target, first, last), out.size, LEAST)


@jit()
def _relu(x, y, first, last):
    for i in range(first, last):
        y[i] = np.float32(0) if x[i] < np.float32(0) else x[i]  # NaN is not below zero, and stays


@jit()
def _relu_gradient(grad_output, y, grad_x, first, last):
    for i in range(first, last):
        grad_x[i] = grad_output[i] if y[i] > np.float32(0) else np.float32(0)


@jit()
def _leaky_relu(x, slope, y, first, last):
    for i in range(first, last):
        y[i] = x[i] if x[i] > np.float32(0) else x[i] * slope


@jit()
def _leaky_relu_gradient(grad_output, y, slope, grad_x, first, last):
    for i in range(first, last):
        grad_x[i] = grad_output[i] if y[i] > np.float32(0) else grad_output[i] * slope


@jit()
def _sigmoid(x, y, first, last):
    one = np.float32(1)
    for i in range(first, last):
        e = np.exp(-abs(x[i]))  # at most 1: nothing overflows
        y[i] = one / (one + e) if x[i] >= np.float32(0) else e / (one + e)


@jit()
def _sigmoid_gradient(grad_output, y, grad_x, first, last):
    for i in range(first, last):
        grad_x[i] = grad_output[i] * y[i] * (np.float32(1) - y[i])


@jit()
def _tanh(x, y, first, last):
    for i in range(first, last):
        y[i] = np.tanh(x[i])


@jit()
def _tanh_gradient(grad_output, y, grad_x, first, last):
    for i in range(first, last):
        grad_x[i] = grad_output[i] * (np.float32(1) - y[i] * y[i])

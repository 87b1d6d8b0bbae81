"""Bias and activation of a dense layer, one launch each way; the formulas stand in `cnn.kernels.linear`.

The sums of the way back are made in shared memory in a fixed order: no atomics, no memory to clear. The number of
columns is a parameter, so that one kernel serves all layers of a network: there is nothing here to unroll.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from cnn.kernels.cuda import activation as activations
from cnn.kernels.cuda.compiler import SIMULATED, Kernel, cuda, device, float32, pointer, uint32
from cnn.kernels.cuda.launch import Launch, contiguous

THREADS = 128

# A block owns 8 columns: 32 bytes of a row, the least that memory is read by, and many blocks for few columns.
COLUMNS = 8
ROWS = 4 if SIMULATED else 32  # of threads; the simulator runs a Python thread for each

FORWARD = {"relu": activations.relu, "sigmoid": activations.sigmoid, "tanh": activations.tanh}
BACKWARD = {
    "relu": activations.relu_gradient,
    "sigmoid": activations.sigmoid_gradient,
    "tanh": activations.tanh_gradient,
}


def add_bias(x: Any, bias: Any, activation: str | None) -> None:
    plan_add_bias(x.size, activation)(x, contiguous(bias), x.shape[1], x.size)


def bias_backward(grad_output: Any, y: Any | None, activation: str | None, grad_x: Any, grad_bias: Any) -> None:
    grad_output = contiguous(grad_output)
    # Without an activation y and grad_x are addresses that are never used.
    y, grad_x = (grad_output, grad_output) if y is None else (contiguous(y), grad_x)
    plan_bias_backward(grad_output.shape[1], activation)(grad_output, y, grad_x, grad_bias, *grad_output.shape)


@cache
def plan_add_bias(size: int, activation: str | None) -> Launch:
    return Launch(_add_bias(activation), (-(-size // THREADS),), (THREADS,))


@cache
def plan_bias_backward(columns: int, activation: str | None) -> Launch:
    return Launch(_bias_backward(activation), (-(-columns // COLUMNS),), (ROWS * COLUMNS,))


@cache
def _add_bias(activation: str | None) -> Kernel:
    activate = _unchanged if activation is None else FORWARD[activation]

    def add_bias(x, bias, columns, size):
        # A thread owns an element.
        i = uint32(uint32(cuda.blockIdx.x) * uint32(THREADS) + uint32(cuda.threadIdx.x))
        if i < size:
            x[i] = activate(x[i] + bias[i % columns])

    return Kernel("add_bias", add_bias, (pointer(float32), pointer(float32), uint32, uint32), THREADS)


@cache
def _bias_backward(activation: str | None) -> Kernel:
    derivative: Callable[..., Any] = _gradient_itself if activation is None else BACKWARD[activation]
    ACTIVATED = activation is not None
    BLOCK = ROWS * COLUMNS

    def bias_backward(grad_output, y, grad_x, grad_bias, rows, columns):
        # A block owns a few columns, a thread every ROWS-th row of one of them.
        sums = cuda.shared.array(BLOCK, float32)
        thread = uint32(cuda.threadIdx.x)
        column = uint32(uint32(cuda.blockIdx.x) * uint32(COLUMNS) + thread % uint32(COLUMNS))
        total = float32(0)
        if column < columns:
            row = uint32(thread // uint32(COLUMNS))
            while row < rows:
                i = uint32(row * columns + column)
                g = derivative(grad_output[i], y[i])
                if ACTIVATED:
                    grad_x[i] = g
                total += g
                row = uint32(row + uint32(ROWS))
        sums[thread] = total
        cuda.syncthreads()
        half = uint32(BLOCK // 2)
        while half >= uint32(COLUMNS):
            if thread < half:
                sums[thread] += sums[uint32(thread + half)]
            cuda.syncthreads()
            half >>= uint32(1)
        if thread < uint32(COLUMNS) and column < columns:
            grad_bias[column] = sums[thread]

    real = pointer(float32)
    return Kernel("bias_backward", bias_backward, (real, real, real, real, uint32, uint32), BLOCK)


@device
def _unchanged(x):
    return x


@device
def _gradient_itself(g, _y):
    return g

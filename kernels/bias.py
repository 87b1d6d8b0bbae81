"""The bias of a dense layer with the activation behind it, on rows: y[n, k] = activation(x[n, k] + bias[k]).

The way back is one pass, too: grad_x = grad_output * activation'(y), and grad_bias[k] = sum_n grad_x[n, k].
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape, check_written
from cnn.kernels.errors import ShapeError
from cnn.kernels.options import check_choice


def add_bias(x: Any, bias: Any, *, activation: str | None = None) -> None:
    """Turn x (N, K), a contiguous array, into activation(x + bias), in place; bias (K,).

    activation: None, "relu", "sigmoid" or "tanh". Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "add_bias"
    check_arrays(operation, x=x, bias=bias)
    _check_rows(operation, "x", x, activation)
    check_shape(operation, "bias", bias, x.shape[1:])
    check_written(operation, "x", x, bias)
    if not x.flags.c_contiguous:
        raise ShapeError(f"{operation}: x must be contiguous")
    backend_module(operation, "bias", x).add_bias(x, bias, activation)


def bias_backward(grad_output: Any, grad_bias: Any, *, activation: str | None = None, y: Any = None) -> Any:
    """From the gradient of activation(x + bias), (N, K), that of x, (N, K); that of the bias goes into grad_bias (K,).

    y (N, K): the result of `add_bias`, needed where there is an activation. grad_bias, contiguous, is overwritten.
    Without an activation the gradient of x is grad_output itself, and that very array is returned.
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "bias_backward"
    check_arrays(operation, optional=("y",), grad_output=grad_output, grad_bias=grad_bias, y=y)
    _check_rows(operation, "grad_output", grad_output, activation)
    if (y is None) != (activation is None):
        raise ShapeError(f"{operation}: y and activation come together, got activation={activation!r}")
    if y is not None:
        check_shape(operation, "y", y, grad_output.shape)
    check_shape(operation, "grad_bias", grad_bias, grad_output.shape[1:])
    check_written(operation, "grad_bias", grad_bias, grad_output, y)
    if not grad_bias.flags.c_contiguous:
        raise ShapeError(f"{operation}: grad_bias must be contiguous")
    module = backend_module(operation, "bias", grad_output)
    grad_x = grad_output if y is None else empty(grad_output.shape, grad_output.dtype, like=grad_output)
    module.bias_backward(grad_output, y, activation, grad_x, grad_bias)
    return grad_x


def _check_rows(operation: str, name: str, array: Any, activation: str | None) -> None:
    if array.ndim != 2:
        raise ShapeError(f"{operation}: {name} must be (N, K), got {array.shape}")
    check_choice(operation, "activation", activation, ACTIVATIONS)

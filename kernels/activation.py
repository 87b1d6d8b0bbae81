"""Activations, elementwise on arrays of any shape. The backward pass needs the output y only:

relu:       max(x, 0)                       derivative  1 where y > 0, else 0
leaky_relu: x where x > 0, else slope x     derivative  1 where y > 0, else slope
sigmoid:    1 / (1 + exp(-x))               derivative  y (1 - y)
tanh:       tanh(x)                         derivative  1 - y^2
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import filled
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape
from cnn.kernels.options import check_number


def relu_forward(x: Any) -> Any:
    """max(x, 0), of the shape and dtype of x; NaN stays NaN. Raises `DTypeError`, `BackendError`."""
    return _forward("relu_forward", x)


def relu_backward(grad_output: Any, y: Any) -> Any:
    """grad_output where y > 0, else 0. Raises `ShapeError`, `DTypeError`, `BackendError`."""
    return _backward("relu_backward", grad_output, y)


def leaky_relu_forward(x: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope * x.

    Raises `ShapeError` for a negative slope, `DTypeError`, `BackendError`.
    """
    return _forward("leaky_relu_forward", x, _slope("leaky_relu_forward", negative_slope))


def leaky_relu_backward(grad_output: Any, y: Any, negative_slope: float = 0.01) -> Any:
    """grad_output where y > 0, else negative_slope * grad_output. Raises as `leaky_relu_forward` does."""
    return _backward("leaky_relu_backward", grad_output, y, _slope("leaky_relu_backward", negative_slope))


def sigmoid_forward(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow for any x. Raises `DTypeError`, `BackendError`."""
    return _forward("sigmoid_forward", x)


def sigmoid_backward(grad_output: Any, y: Any) -> Any:
    """grad_output * y * (1 - y). Raises `ShapeError`, `DTypeError`, `BackendError`."""
    return _backward("sigmoid_backward", grad_output, y)


def tanh_forward(x: Any) -> Any:
    """tanh(x). Raises `DTypeError`, `BackendError`."""
    return _forward("tanh_forward", x)


def tanh_backward(grad_output: Any, y: Any) -> Any:
    """grad_output * (1 - y * y). Raises `ShapeError`, `DTypeError`, `BackendError`."""
    return _backward("tanh_backward", grad_output, y)


def _forward(operation: str, x: Any, *options: float) -> Any:
    check_arrays(operation, x=x)
    compute = getattr(backend_module(operation, "activation", x), operation)
    return filled(operation, None, x.shape, x.dtype, (x,), lambda y: compute(x, *options, y))


def _backward(operation: str, grad_output: Any, y: Any, *options: float) -> Any:
    check_arrays(operation, grad_output=grad_output, y=y)
    check_shape(operation, "y", y, grad_output.shape)
    compute = getattr(backend_module(operation, "activation", y), operation)
    inputs = (grad_output, y)
    return filled(operation, None, y.shape, y.dtype, inputs, lambda grad_x: compute(*inputs, *options, grad_x))


def _slope(operation: str, negative_slope: float) -> float:
    # The sign of y tells the sign of x only while the slope is not negative.
    return check_number(operation, "negative_slope", negative_slope, least=0)

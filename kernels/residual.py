"""The two ends of a residual layer: where the body and the way around it meet, and where they part.

y = activation(body + around)
grad_x = (grad_body + grad_around) * input_activation'(x)        where x came out of an activation, else the sum
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape
from cnn.kernels.errors import ShapeError
from cnn.kernels.options import check_choice


def residual_forward(body: Any, around: Any, *, activation: str | None = None) -> Any:
    """activation(body + around), two arrays of one shape. activation: None, "relu", "sigmoid" or "tanh".

    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "residual_forward"
    check_arrays(operation, body=body, around=around)
    check_shape(operation, "around", around, body.shape)
    check_choice(operation, "activation", activation, ACTIVATIONS)
    y = empty(body.shape, body.dtype, like=body)
    backend_module(operation, "residual", body).residual_forward(body, around, activation, y)
    return y


def residual_backward(grad_body: Any, grad_around: Any, *, input_activation: str | None = None, x: Any = None) -> Any:
    """The gradient of x, which both took in, from theirs.

    input_activation, x: what x came out of, and x itself; the gradient is that from before the activation then.
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "residual_backward"
    check_arrays(operation, optional=("x",), grad_body=grad_body, grad_around=grad_around, x=x)
    check_shape(operation, "grad_around", grad_around, grad_body.shape)
    check_choice(operation, "input_activation", input_activation, ACTIVATIONS)
    if (x is None) != (input_activation is None):
        raise ShapeError(f"{operation}: x and input_activation come together, got {input_activation!r}")
    if x is not None:
        check_shape(operation, "x", x, grad_body.shape)
    grad_x = empty(grad_body.shape, grad_body.dtype, like=grad_body)
    module = backend_module(operation, "residual", grad_body)
    module.residual_backward(grad_body, grad_around, input_activation, x, grad_x)
    return grad_x

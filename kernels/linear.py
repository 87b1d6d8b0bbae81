"""The dense layer with what stands beside it: y[n, k] = activation(sum over c of x[n, c] weight[k, c] + bias[k]).

The way back is one function, since its parts share what they read. With g = grad_output * activation'(y):

    grad_weight[k, c] = sum over n of g[n, k] x[n, c]        grad_bias[k] = sum over n of g[n, k]
    grad_x[n, c]      = sum over k of g[n, k] weight[k, c] * input_activation'(x[n, c])
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape
from cnn.kernels.errors import ShapeError
from cnn.kernels.gradients import check_activation, check_gradients
from cnn.kernels.options import check_choice, check_flag


def linear_forward(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Any:
    """x (N, C), weight (K, C), bias (K,) to y (N, K). activation: None, "relu", "sigmoid" or "tanh".

    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "linear_forward"
    check_arrays(operation, optional=("bias",), x=x, weight=weight, bias=bias)
    images, filters = _check_shapes(operation, x, weight)
    if bias is not None:
        check_shape(operation, "bias", bias, (filters,))
    check_choice(operation, "activation", activation, ACTIVATIONS)
    y = empty((images, filters), x.dtype, like=x)
    backend_module(operation, "linear", x).linear_forward(x, weight, bias, activation, y)
    return y


def linear_backward(
    x: Any,
    weight: Any,
    grad_output: Any,
    grad_weight: Any,
    grad_bias: Any = None,
    *,
    activation: str | None = None,
    y: Any = None,
    input_activation: str | None = None,
    needs_input_gradient: bool = True,
    deterministic: bool = False,
    zeroed: bool = False,
) -> Any:
    """All gradients of `linear_forward`, from that of y, grad_output (N, K).

    grad_weight (K, C) and grad_bias (K,): contiguous, overwritten. activation, y: what the forward pass used and
    returned; left out where grad_output is the gradient from before the activation. input_activation: the one that x
    came out of; grad_x is then the gradient from before it. deterministic, zeroed: as in `conv_block_backward`.
    Returns grad_x (N, C), or None where it is not needed. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "linear_backward"
    optional = ("grad_bias", "y")
    arrays = {"grad_weight": grad_weight, "grad_bias": grad_bias}
    check_arrays(operation, optional=optional, x=x, weight=weight, grad_output=grad_output, y=y, **arrays)
    images, filters = _check_shapes(operation, x, weight)
    check_shape(operation, "grad_output", grad_output, (images, filters))
    check_activation(operation, activation, y, (images, filters), input_activation)
    check_flag(operation, "deterministic", deterministic)
    check_flag(operation, "zeroed", zeroed)
    check_gradients(operation, weight.shape, arrays, (x, weight, grad_output, y))
    module = backend_module(operation, "linear", x)
    grad_x = (
        empty(x.shape, x.dtype, like=x) if check_flag(operation, "needs_input_gradient", needs_input_gradient) else None
    )
    module.linear_backward(
        x,
        weight,
        grad_output,
        activation,
        y,
        input_activation,
        bool(deterministic),
        grad_weight,
        grad_bias,
        grad_x,
        bool(zeroed),
    )
    return grad_x


def _check_shapes(operation: str, x: Any, weight: Any) -> tuple[int, int]:
    """Images and filters."""
    if x.ndim != 2:
        raise ShapeError(f"{operation}: x must be (N, C), got {x.shape}")
    if weight.ndim != 2:
        raise ShapeError(f"{operation}: weight must be (K, C), got {weight.shape}")
    if x.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"{operation}: x and weight must have the same number of channels, got {x.shape} and {weight.shape}"
        )
    return x.shape[0], weight.shape[0]

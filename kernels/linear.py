"""The dense layer with what stands beside it: y[n, k] = activation(sum over c of x[n, c] weight[k, c] + bias[k]).

The way back is one function, since its parts share what they read. With g = grad_output * activation'(y):

    grad_weight[k, c] = sum over n of g[n, k] x[n, c]        grad_bias[k] = sum over n of g[n, k]
    grad_x[n, c]      = sum over k of g[n, k] weight[k, c] * input_activation'(x[n, c])

Dropout right behind a ReLU costs the way back nothing but a factor: what is above zero was kept, and all else is zero.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape
from cnn.kernels.dropout import drawn, scale
from cnn.kernels.errors import ShapeError
from cnn.kernels.gradients import check_activation, check_gradients
from cnn.kernels.options import check_choice, check_flag


def linear_forward(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: str | None = None,
    dropout: tuple[float, Any, int] | None = None,
) -> Any:
    """x (N, C), weight (K, C), bias (K,) to y (N, K). activation: None, "relu", "sigmoid" or "tanh".

    dropout: p, state and call of `cnn.kernels.dropout`, which the result goes through; None for no such thing.
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "linear_forward"
    check_arrays(operation, optional=("bias",), x=x, weight=weight, bias=bias)
    images, filters = _check_shapes(operation, x, weight)
    if bias is not None:
        check_shape(operation, "bias", bias, (filters,))
    check_choice(operation, "activation", activation, ACTIVATIONS)
    numbers = None if dropout is None else drawn(operation, *dropout, like=x)
    module = backend_module(operation, "linear", x)
    y = empty((images, filters), x.dtype, like=x)
    module.linear_forward(x, weight, bias, activation, y, numbers)
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
    dropout: float = 0.0,
    input_activation: str | None = None,
    input_dropout: float = 0.0,
    needs_input_gradient: bool = True,
    deterministic: bool = False,
    zeroed: bool = False,
) -> Any:
    """All gradients of `linear_forward`, from that of y, grad_output (N, K).

    grad_weight (K, C) and grad_bias (K,): contiguous, overwritten. activation, y: what the forward pass used and
    returned; left out where grad_output is the gradient from before the activation. input_activation: the one that x
    came out of; grad_x is then the gradient from before it. dropout, input_dropout: the p of a dropout
    that y, or x, went through behind its activation, which is "relu" then. deterministic, zeroed: as in
    `conv_block_backward`.
    Returns grad_x (N, C), or None where it is not needed. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "linear_backward"
    optional = ("grad_bias", "y")
    arrays = {"grad_weight": grad_weight, "grad_bias": grad_bias}
    check_arrays(operation, optional=optional, x=x, weight=weight, grad_output=grad_output, y=y, **arrays)
    images, filters = _check_shapes(operation, x, weight)
    check_shape(operation, "grad_output", grad_output, (images, filters))
    check_activation(operation, activation, y, (images, filters), input_activation)
    own_scale = _scale(operation, "dropout", dropout, "activation", activation)
    input_scale = _scale(operation, "input_dropout", input_dropout, "input_activation", input_activation)
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
        own_scale,
        input_scale,
    )
    return grad_x


def _scale(operation: str, name: str, p: Any, activation_name: str, activation: str | None) -> float:
    """What a gradient is multiplied with behind a dropout."""
    factor = scale(operation, name, p)
    if p and activation != "relu":
        raise ShapeError(f'{operation}: {name} {p} needs {activation_name} "relu", got {activation!r}')
    return factor


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

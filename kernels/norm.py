"""Batch normalisation: y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over images and pixels.

Training normalises by the batch and moves the running statistics, running = (1 - momentum) running + momentum batch,
with the unbiased variance there and the biased one in y, as `torch.nn.BatchNorm2d` does. What goes around the layer
and is added to y, and an activation that stands right behind, are computed along, and so is its derivative.
"""

from __future__ import annotations

from typing import Any

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_shape, check_written
from cnn.kernels.errors import ShapeError
from cnn.kernels.gradients import check_activation
from cnn.kernels.options import check_choice, check_flag, check_number


def batch_norm_forward(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
    activation: str | None = None,
    around: Any = None,
) -> tuple[Any, Any]:
    """Normalise x (N, C, *spatial) per channel; weight, bias, running_mean, running_var are (C,).

    The running arrays are updated in place when training. around: of the shape of x, added to y. activation: None,
    "relu", "sigmoid" or "tanh", applied to y last. Returns (y, saved), saved (2, C) holding the mean and
    1 / sqrt(var + eps) that were used. Raises `ShapeError` (training on one value per channel, too), `DTypeError`,
    `BackendError`.
    """
    operation = "batch_norm_forward"
    running = {"running_mean": running_mean, "running_var": running_var}
    check_arrays(operation, optional=("around",), x=x, weight=weight, bias=bias, **running, around=around)
    channels = _channels(operation, "x", x)
    for name, array in (("weight", weight), ("bias", bias)):
        check_shape(operation, name, array, (channels,))
    for name, array, other in (
        ("running_mean", running_mean, running_var),
        ("running_var", running_var, running_mean),
    ):
        check_shape(operation, name, array, (channels,))
        if check_flag(operation, "training", training):
            check_written(operation, name, array, x, weight, bias, other, around)
    momentum = check_number(operation, "momentum", momentum)
    eps = check_number(operation, "eps", eps, least=0)
    check_choice(operation, "activation", activation, ACTIVATIONS)
    if training and channels and x.size == channels:
        raise ShapeError(f"{operation}: training needs more than one value per channel, got x {x.shape}")
    if around is not None:
        check_shape(operation, "around", around, x.shape)
    y, saved = empty(x.shape, x.dtype, like=x), empty((2, channels), x.dtype, like=x)
    module = backend_module(operation, "norm", x, max(x.ndim - 2, 1))
    options = training, momentum, eps, activation
    module.batch_norm_forward(x, weight, bias, running_mean, running_var, *options, around, y, saved)
    return y, saved


def batch_norm_backward(
    grad_output: Any, x: Any, weight: Any, saved: Any, *, activation: str | None = None, y: Any = None
) -> tuple[Any, Any, Any]:
    """Gradients of a training pass: (grad_x, grad_weight, grad_bias). saved (2, C) is what the forward pass returned.

    activation, y: what the forward pass used and returned; left out where grad_output is the gradient from before the
    activation. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "batch_norm_backward"
    check_arrays(operation, optional=("y",), grad_output=grad_output, x=x, weight=weight, saved=saved, y=y)
    channels = _channels(operation, "x", x)
    check_shape(operation, "grad_output", grad_output, x.shape)
    check_shape(operation, "weight", weight, (channels,))
    check_shape(operation, "saved", saved, (2, channels))
    check_activation(operation, activation, y, x.shape, None)
    grad_x = empty(x.shape, x.dtype, like=x)
    grad_weight, grad_bias = empty((channels,), x.dtype, like=x), empty((channels,), x.dtype, like=x)
    module = backend_module(operation, "norm", x, max(x.ndim - 2, 1))
    module.batch_norm_backward(grad_output, x, weight, saved, activation, y, grad_x, grad_weight, grad_bias)
    return grad_x, grad_weight, grad_bias


def _channels(operation: str, name: str, x: Any) -> int:
    if not 2 <= x.ndim <= 5:
        raise ShapeError(f"{operation}: {name} must be (N, C) or (N, C, *spatial), got {x.shape}")
    return int(x.shape[1])

"""A convolution with what stands behind it: bias, activation, and max pooling of windows side by side.

    z = activation(conv(x, weight) + bias)          y = max_pool(z), or z itself without a window

Each way is one function, since its parts share what they read and write. An activation never falls, so its derivative
at the maximum of a window is that at y: the way back needs no z. With g = grad_output * activation'(y):

    grad_z = max_pool_backward(g, argmax);  grad_weight, grad_bias, grad_x as in `cnn.kernels.conv`, from grad_z
    grad_x + grad_around where x went another way, too, whose gradient this is; and both of that times
    input_activation'(x) where x came out of an activation
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty
from cnn.kernels.conv import ACTIVATIONS
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape
from cnn.kernels.errors import DTypeError, ShapeError
from cnn.kernels.geometry import CROSS_CORRELATION, ConvGeometry, PoolGeometry
from cnn.kernels.gradients import check_activation, check_gradients
from cnn.kernels.options import check_choice, check_flag
from cnn.kernels.pool import check_argmax
from cnn.kernels.precision import FLOAT32, check_precision
from cnn.kernels.sizes import freeze

_OPTIONS = ("stride", "padding", "dilation", "groups", "mode")


def conv_block_forward(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = CROSS_CORRELATION,
    activation: str | None = None,
    window: int | Sequence[int] | None = None,
    precision: str = FLOAT32,
) -> tuple[Any, Any]:
    """`conv_forward` and then, with a window, `max_pool_forward`: (y, argmax), argmax None without a window.

    x, weight, bias and options as in `conv_forward`. window: an int or one int per dimension, also the stride of the
    pooling, which has no padding. y (N, K, *pooled), argmax int32 of the same shape: the flat index in the plane of z.
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "conv_block_forward"
    check_arrays(operation, optional=("bias",), x=x, weight=weight, bias=bias)
    options = tuple(map(freeze, (stride, padding, dilation, groups, mode, window)))
    conv, pool = _geometries(operation, x.shape, weight.shape, options)
    if bias is not None:
        check_shape(operation, "bias", bias, (conv.filters,))
    check_choice(operation, "activation", activation, ACTIVATIONS)
    check_precision(operation, precision)
    module = backend_module(operation, "conv_block", x, conv.dimensions)
    y = empty(conv.y_shape if pool is None else pool.y_shape, x.dtype, like=x)
    argmax = None if pool is None else empty(pool.y_shape, np.int32, like=x)
    module.conv_block_forward(x, weight, bias, conv, activation, pool, precision, y, argmax)
    return y, argmax


def conv_block_backward(
    x: Any,
    weight: Any,
    grad_output: Any,
    grad_weight: Any,
    grad_bias: Any = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    mode: str = CROSS_CORRELATION,
    activation: str | None = None,
    y: Any = None,
    window: int | Sequence[int] | None = None,
    argmax: Any = None,
    input_activation: str | None = None,
    grad_around: Any = None,
    needs_input_gradient: bool = True,
    deterministic: bool = False,
    precision: str = FLOAT32,
    zeroed: bool = False,
) -> Any:
    """All gradients of `conv_block_forward`, from that of y, grad_output.

    grad_weight (K, C/groups, *kernel) and grad_bias (K,): contiguous, overwritten. Options, window and argmax: those of
    the forward pass. activation, y: what it used and returned; left out where grad_output is the gradient from before
    the activation. grad_around: another gradient of x, which grad_x includes. input_activation: the one that x came out
    of; grad_x is then the gradient from before it.
    deterministic, precision: as in `conv_kernel_gradient`. zeroed: the caller has filled grad_weight and grad_bias with
    zeros, which spares a GPU doing so. Returns grad_x (N, C, *spatial), or None where it is not needed.
    Raises `ShapeError` (also for an argmax outside the plane, which adds to nothing on a GPU), `DTypeError`,
    `BackendError`.
    """
    operation = "conv_block_backward"
    optional = ("grad_bias", "y", "grad_around")
    arrays = {"grad_weight": grad_weight, "grad_bias": grad_bias}
    given = {"x": x, "weight": weight, "grad_output": grad_output, "y": y, "grad_around": grad_around}
    check_arrays(operation, optional=optional, **given, **arrays)
    options = tuple(map(freeze, (stride, padding, dilation, groups, mode, window)))
    conv, pool = _geometries(operation, x.shape, weight.shape, options)
    y_shape = conv.y_shape if pool is None else pool.y_shape
    check_shape(operation, "grad_output", grad_output, y_shape)
    check_activation(operation, activation, y, y_shape, input_activation)
    if grad_around is not None:
        check_shape(operation, "grad_around", grad_around, x.shape)
    _check_argmax(operation, argmax, grad_output, pool)
    check_flag(operation, "deterministic", deterministic)
    check_precision(operation, precision)
    check_flag(operation, "zeroed", zeroed)
    check_gradients(operation, conv.weight_shape, arrays, tuple(given.values()))
    module = backend_module(operation, "conv_block", x, conv.dimensions)
    grad_x = (
        empty(x.shape, x.dtype, like=x) if check_flag(operation, "needs_input_gradient", needs_input_gradient) else None
    )
    module.conv_block_backward(
        x,
        weight,
        grad_output,
        conv,
        activation,
        y,
        pool,
        argmax,
        input_activation,
        grad_around,
        bool(deterministic),
        precision,
        grad_weight,
        grad_bias,
        grad_x,
        bool(zeroed),
    )
    return grad_x


@lru_cache(maxsize=4096)
def _geometries(
    operation: str, x_shape: tuple[int, ...], weight_shape: tuple[int, ...], options: tuple[Any, ...]
) -> tuple[ConvGeometry, PoolGeometry | None]:
    """Both in one search, since every layer asks for every image. options: hashable, as `_OPTIONS` and a window."""
    *given, window = options
    conv = ConvGeometry.of(operation, x_shape, weight_shape, **dict(zip(_OPTIONS, given, strict=True)))
    return conv, None if window is None else PoolGeometry.of(operation, conv.y_shape, window)


def _check_argmax(operation: str, argmax: Any, grad_output: Any, pool: PoolGeometry | None) -> None:
    if pool is None:
        if argmax is not None:
            raise ShapeError(f"{operation}: window and argmax come together, got argmax alone")
        return
    check_labels(operation, "argmax", argmax, grad_output)
    check_shape(operation, "argmax", argmax, pool.y_shape)
    if argmax.dtype != np.int32:
        raise DTypeError(f"{operation}: argmax must be int32, as the forward pass gave it, got {argmax.dtype}")
    check_argmax(operation, argmax, pool)

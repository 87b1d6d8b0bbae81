"""Pooling: the maximum or the average of windows over each channel's plane.

Padding is smaller than the window, so every window covers at least one real element. `ceil_mode` rounds the output
size up and drops a window that would start outside the input and its leading padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty, filled
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape
from cnn.kernels.errors import ShapeError
from cnn.kernels.geometry import PoolGeometry


def max_pool_forward(
    x: Any,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
) -> tuple[Any, Any]:
    """Maximum of each window over x (N, C, *spatial): (y, argmax), both (N, C, *output).

    argmax, int32, is the flat index of the maximum within its image and channel's input plane. The first one wins a
    tie, NaN wins over numbers, padding never wins. `stride=None` sets windows side by side.
    Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "max_pool_forward"
    check_arrays(operation, x=x)
    geometry = PoolGeometry.of(operation, x.shape, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    module = backend_module(operation, "pool", x, geometry.dimensions)
    y, argmax = empty(geometry.y_shape, x.dtype), empty(geometry.y_shape, np.int32)
    module.max_pool_forward(x, geometry, y, argmax)
    return y, argmax


def max_pool_backward(grad_output: Any, argmax: Any, input_shape: Sequence[int]) -> Any:
    """Send each element of grad_output (N, C, *output) to where its maximum stood; overlapping windows add up.

    Returns grad_x of `input_shape` (N, C, *spatial). Raises `ShapeError` (also for an argmax outside the plane),
    `DTypeError`, `BackendError`.
    """
    operation = "max_pool_backward"
    check_arrays(operation, grad_output=grad_output)
    check_labels(operation, "argmax", argmax, grad_output)
    check_shape(operation, "argmax", argmax, grad_output.shape)
    shape = PoolGeometry.of(operation, input_shape, 1).x_shape
    if grad_output.ndim != len(shape) or grad_output.shape[:2] != shape[:2]:
        raise ShapeError(
            f"{operation}: grad_output must have the images and channels of the input {shape}, got {grad_output.shape}"
        )
    plane = int(np.prod(shape[2:]))
    # One pass over argmax, small beside the planes, is what it costs that no index can leave its plane.
    if argmax.size and (argmax.min() < 0 or argmax.max() >= plane):
        raise ShapeError(
            f"{operation}: argmax must lie in 0..{plane - 1}, got values from {argmax.min()} to {argmax.max()}"
        )
    module = backend_module(operation, "pool", grad_output, len(shape) - 2)
    return filled(
        operation,
        None,
        shape,
        grad_output.dtype,
        (grad_output,),
        lambda grad_x: module.max_pool_backward(grad_output, argmax, grad_x),
    )


def avg_pool_forward(
    x: Any,
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Average of each window over x (N, C, *spatial): y (N, C, *output).

    count_include_pad: padding counts as zeros (what `ceil_mode` adds beyond it never counts); otherwise each sum is
    divided by the number of real elements. Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "avg_pool_forward"
    check_arrays(operation, x=x)
    geometry = PoolGeometry.of(operation, x.shape, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    module = backend_module(operation, "pool", x, geometry.dimensions)
    return filled(
        operation,
        None,
        geometry.y_shape,
        x.dtype,
        (x,),
        lambda y: module.avg_pool_forward(x, geometry, bool(count_include_pad), y),
    )


def avg_pool_backward(
    grad_output: Any,
    input_shape: Sequence[int],
    window: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Spread each element of grad_output (N, C, *output) evenly over its window; options as in `avg_pool_forward`.

    Returns grad_x of `input_shape` (N, C, *spatial). Raises `ShapeError`, `DTypeError`, `BackendError`.
    """
    operation = "avg_pool_backward"
    check_arrays(operation, grad_output=grad_output)
    geometry = PoolGeometry.of(operation, input_shape, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    check_shape(operation, "grad_output", grad_output, geometry.y_shape)
    module = backend_module(operation, "pool", grad_output, geometry.dimensions)
    return filled(
        operation,
        None,
        geometry.x_shape,
        grad_output.dtype,
        (grad_output,),
        lambda grad_x: module.avg_pool_backward(grad_output, geometry, bool(count_include_pad), grad_x),
    )

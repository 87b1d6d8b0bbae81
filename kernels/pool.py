"""Pooling: the maximum or the average of windows over each channel's plane.

Padding is smaller than the window, so every window covers at least one real element. `ceil_mode` rounds the output
size up and drops a window that would start outside the input and its leading padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn.kernels.buffers import empty, filled
from cnn.kernels.dispatch import backend_module, check_arrays, check_labels, check_shape, readable
from cnn.kernels.errors import ShapeError
from cnn.kernels.geometry import PoolGeometry
from cnn.kernels.options import check_flag


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
    y, argmax = empty(geometry.y_shape, x.dtype, like=x), empty(geometry.y_shape, np.int32, like=x)
    module.max_pool_forward(x, geometry, y, argmax)
    return y, argmax


def max_pool_backward(
    grad_output: Any,
    argmax: Any,
    input_shape: Sequence[int],
    *,
    window: int | Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
) -> Any:
    """Send each element of grad_output (N, C, *output) to where its maximum stood; overlapping windows add up.

    window and the rest: those of `max_pool_forward`. A GPU gathers instead of scattering, and without them each
    element of the input has to look at all outputs of its plane; the CPU needs argmax alone.
    Returns grad_x of `input_shape` (N, C, *spatial). Raises `ShapeError` (also for an argmax outside the plane: on a
    GPU it adds to nothing instead), `DTypeError`, `BackendError`.
    """
    operation = "max_pool_backward"
    check_arrays(operation, grad_output=grad_output)
    check_labels(operation, "argmax", argmax, grad_output)
    check_shape(operation, "argmax", argmax, grad_output.shape)
    if window is None:
        geometry = _any_window(operation, grad_output.shape, input_shape)
    else:
        geometry = PoolGeometry.of(operation, input_shape, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
        check_shape(operation, "grad_output", grad_output, geometry.y_shape)
    check_argmax(operation, argmax, geometry)
    module = backend_module(operation, "pool", grad_output, geometry.dimensions)
    return filled(
        operation,
        None,
        geometry.x_shape,
        grad_output.dtype,
        (grad_output,),
        lambda grad_x: module.max_pool_backward(grad_output, argmax, geometry, grad_x),
    )


def check_argmax(operation: str, argmax: Any, geometry: PoolGeometry) -> None:
    """No index leaves its plane, as far as can be seen from here: a GPU would have to be waited for.

    One pass over argmax, small beside the planes: read without their sign, negative numbers are the largest.
    """
    plane = math.prod(geometry.input)
    if readable(argmax) and argmax.size and argmax.view(f"u{argmax.itemsize}").max() >= plane:
        raise ShapeError(
            f"{operation}: argmax must lie in 0..{plane - 1}, got values from {argmax.min()} to {argmax.max()}"
        )


def _any_window(operation: str, y_shape: tuple[int, ...], input_shape: Sequence[int]) -> PoolGeometry:
    """Windows so large that each of them, wherever it lies, covers the whole plane."""
    batch, channels, *input_ = PoolGeometry.of(operation, input_shape, 1).x_shape
    if len(y_shape) != len(input_) + 2 or y_shape[:2] != (batch, channels):
        raise ShapeError(
            f"{operation}: grad_output must have the images and channels of the input {(batch, channels, *input_)}, "
            f"got {y_shape}"
        )
    output = y_shape[2:]
    windows = tuple(size + count - 1 for size, count in zip(input_, output, strict=True))
    padding = tuple((count - 1, count - 1) for count in output)
    return PoolGeometry(batch, channels, tuple(input_), windows, output, (1,) * len(output), padding)


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
    include_pad = check_flag(operation, "count_include_pad", count_include_pad)
    check_arrays(operation, x=x)
    geometry = PoolGeometry.of(operation, x.shape, window, stride=stride, padding=padding, ceil_mode=ceil_mode)
    module = backend_module(operation, "pool", x, geometry.dimensions)
    return filled(
        operation,
        None,
        geometry.y_shape,
        x.dtype,
        (x,),
        lambda y: module.avg_pool_forward(x, geometry, include_pad, y),
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
    include_pad = check_flag(operation, "count_include_pad", count_include_pad)
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
        lambda grad_x: module.avg_pool_backward(grad_output, geometry, include_pad, grad_x),
    )

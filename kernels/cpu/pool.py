"""Pooling, one plane (an image's channel) after the other; a thread takes a run of planes.

One dimension is computed as two, with height 1. Functions are compiled for each window size, so that the loops over a
window that lies wholly inside its plane are unrolled.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from cnn.kernels.cpu.compile import jit
from cnn.kernels.cpu.threads import share
from cnn.kernels.geometry import PoolGeometry

Array = np.ndarray[Any, Any]

# A thread costs more than it computes below about this many elements.
LEAST = 2**14


def max_pool_forward(x: Array, geometry: PoolGeometry, out: Array, argmax: Array) -> None:
    loop = _max_pool(*_plane(geometry.window))
    _share(geometry, lambda *part: loop(_flat(x), *_sizes(geometry), out.reshape(-1), argmax.reshape(-1), *part))


def max_pool_backward(grad_output: Array, argmax: Array, _geometry: PoolGeometry, out: Array) -> None:
    planes = math.prod(out.shape[:2])
    flat_grad, flat_argmax, flat_out = _flat(grad_output), _flat(argmax), out.reshape(-1)
    sizes = math.prod(grad_output.shape[2:]), math.prod(out.shape[2:])
    least = max(LEAST // max(sizes[1], 1), 1)
    share(lambda *part: _scatter(flat_grad, flat_argmax, *sizes, flat_out, *part), planes, least)


def avg_pool_forward(x: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    loop = _avg_pool(*_plane(geometry.window), count_include_pad)
    _share(geometry, lambda *part: loop(_flat(x), *_sizes(geometry), out.reshape(-1), *part))


def avg_pool_backward(grad_output: Array, geometry: PoolGeometry, count_include_pad: bool, out: Array) -> None:
    loop = _avg_pool_gradient(*_plane(geometry.window), count_include_pad)
    _share(geometry, lambda *part: loop(_flat(grad_output), *_sizes(geometry), out.reshape(-1), *part))


def _share(geometry: PoolGeometry, work: Any) -> None:
    planes = geometry.batch * geometry.channels
    share(work, planes, max(LEAST // math.prod(geometry.input), 1))


def _plane(sizes: tuple[int, ...]) -> tuple[int, int]:
    return (sizes[0], sizes[1]) if len(sizes) == 2 else (1, sizes[0])


def _sizes(geometry: PoolGeometry) -> tuple[int, ...]:
    """height, width, output height and width, stride down and right, padding above, below, left and right."""
    padding = ((0, 0), *geometry.padding)[-2:]
    stride = _plane(geometry.stride)
    return (*_plane(geometry.input), *_plane(geometry.output), *stride, *padding[0], *padding[1])


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1)


@cache
def _max_pool(window_height: int, window_width: int) -> Any:
    @jit()
    def max_pool(
        x, height, width, out_height, out_width, down, right, above, _below, left, _right, y, argmax, first, last
    ):
        for plane in range(first, last):
            start = plane * height * width
            for p in range(out_height):
                top = p * down - above
                for q in range(out_width):
                    side = q * right - left
                    target = (plane * out_height + p) * out_width + q
                    if top >= 0 and side >= 0 and top + window_height <= height and side + window_width <= width:
                        best = top * width + side
                        value = x[start + best]
                        for r in range(window_height):
                            for s in range(window_width):
                                at = (top + r) * width + side + s
                                if x[start + at] > value or (np.isnan(x[start + at]) and not np.isnan(value)):
                                    best, value = at, x[start + at]
                    else:
                        best = max(top, 0) * width + max(side, 0)
                        value = x[start + best]
                        for h in range(max(top, 0), min(top + window_height, height)):
                            for w in range(max(side, 0), min(side + window_width, width)):
                                at = h * width + w
                                if x[start + at] > value or (np.isnan(x[start + at]) and not np.isnan(value)):
                                    best, value = at, x[start + at]
                    y[target] = value
                    argmax[target] = best

    return max_pool


@jit()
def _scatter(grad_output, argmax, pixels, plane_size, grad_x, first, last):
    for plane in range(first, last):
        grad_x[plane * plane_size : (plane + 1) * plane_size] = 0
        for i in range(plane * pixels, (plane + 1) * pixels):
            grad_x[plane * plane_size + argmax[i]] += grad_output[i]


@jit(inline="always")
def _divisor(top, side, window_height, window_width, height, width, below, right, include_pad):
    """Elements that the window with this corner averages; what lies beyond the padding never counts."""
    if include_pad:
        h = min(top + window_height, height + below) - top
        w = min(side + window_width, width + right) - side
    else:
        h = min(top + window_height, height) - max(top, 0)
        w = min(side + window_width, width) - max(side, 0)
    return np.float32(h * w)


@cache
def _avg_pool(window_height: int, window_width: int, include_pad: bool) -> Any:
    @jit()
    def avg_pool(x, height, width, out_height, out_width, down, right, above, below, left, after, y, first, last):
        for plane in range(first, last):
            for p in range(out_height):
                top = p * down - above
                for q in range(out_width):
                    side = q * right - left
                    total = np.float32(0)
                    for h in range(max(top, 0), min(top + window_height, height)):
                        for w in range(max(side, 0), min(side + window_width, width)):
                            total += x[(plane * height + h) * width + w]
                    y[(plane * out_height + p) * out_width + q] = total / _divisor(
                        top, side, window_height, window_width, height, width, below, after, include_pad
                    )

    return avg_pool


@cache
def _avg_pool_gradient(window_height: int, window_width: int, include_pad: bool) -> Any:
    @jit()
    def avg_pool_gradient(
        grad_output, height, width, out_height, out_width, down, right, above, below, left, after, grad_x, first, last
    ):
        for plane in range(first, last):
            grad_x[plane * height * width : (plane + 1) * height * width] = 0
            for p in range(out_height):
                top = p * down - above
                for q in range(out_width):
                    side = q * right - left
                    share = grad_output[(plane * out_height + p) * out_width + q] / _divisor(
                        top, side, window_height, window_width, height, width, below, after, include_pad
                    )
                    for h in range(max(top, 0), min(top + window_height, height)):
                        for w in range(max(side, 0), min(side + window_width, width)):
                            grad_x[(plane * height + h) * width + w] += share

    return avg_pool_gradient
